// What a user does with the live page, and sees of it. Returns what is wrong.
const until = async (what, condition) => {
  const end = performance.now() + 20000;
  while (performance.now() < end) {
    const found = await condition();
    if (found) return found;
    await new Promise(next => setTimeout(next, 50));
  }
  throw new Error(`${what} does not come`);
};
const text = async path => (await fetch(path)).text();
const fill = (form, values) => {
  for (const [name, value] of Object.entries(values)) {
    const field = form.elements[name];
    field.value = value;
    field.dispatchEvent(new Event('input', {bubbles: true}));
    field.dispatchEvent(new Event('change', {bubbles: true}));
  }
};
const card = name => [...document.querySelectorAll('#proxies article')]
  .find(it => it.querySelector('h3').textContent === name);
const button = (within, words) => [...within.querySelectorAll('button')]
  .find(it => it.textContent === words);

// Everything open is no wider than the screen, which is that of a phone.
document.querySelectorAll('details').forEach(details => { details.open = true; });
const {scrollWidth, clientWidth} = document.documentElement;
if (scrollWidth > clientWidth) return [`the page is ${scrollWidth} wide, not ${clientWidth}`];

// A proxy with a name that would be markup, if it were not shown as text.
const name = '<img src=x onerror=alert(1)>';
const add = document.getElementById('add-proxy');
fill(add, {name, listen: 'localhost:0', upstream: 'db:5432'});
add.requestSubmit();
const it = await until('the new proxy', () => card(name));
if (document.querySelector('img')) return ['a name became an element'];
const path = `/trustctl/proxies/${encodeURIComponent(name)}`;

// A name that is taken.
fill(add, {name, upstream: 'db:5432'});
add.requestSubmit();
await until('the reason', () => add.textContent.includes('proxy already exists'));

// A toxic, with its numbers.
const toxics = it.querySelectorAll('form')[0];
fill(toxics, {type: 'latency', share: '50'});
fill(toxics, {latency: '100', jitter: '10'});
toxics.requestSubmit();
const row = await until('the toxic', () => it.querySelector('li'));
const shown = row.textContent;
if (!shown.includes('latency downstream: latency 100, jitter 10, for 50 % of connections'))
  return [`the toxic is shown as ${shown}`];
const [toxic] = JSON.parse(await text(`${path}/toxics`));
if (toxic.attributes.latency !== 100 || toxic.toxicity !== 0.5)
  return [`the toxic is ${JSON.stringify(toxic)}`];
button(row, 'Remove').click();
await until('the end of the toxic', () => !it.querySelector('li'));

// Fault rules, wrong ones first. What is being written stays while reports come.
const rules = it.querySelectorAll('form')[1];
fill(rules, {schedule: 'rust'});
rules.requestSubmit();
await until('the fault in the rule', () => it.textContent.includes('^'));
if (rules.elements.schedule.value !== 'rust') return ['what was written is gone'];
fill(rules, {schedule: 'rst @ byte 5 up'});
rules.requestSubmit();
await until('the rules', async () => await text(`${path}/schedule`) === 'rst @ byte 5 up\n');
button(rules, 'Remove rules').click();
await until('no rules', async () => await text(`${path}/schedule`) === '');

// Enabled and not.
button(it, 'Disable').click();
await until('the state', () => it.querySelector('.word').textContent === 'disabled');
button(it, 'Enable').click();
await until('the state', () => it.querySelector('.word').textContent === 'listening');
window.confirm = () => true;
button(it, 'Delete').click();
await until('the end of the proxy', () => !card(name));

// A connection.
const connections = document.getElementById('connections');
const count = connections.children.length;
const conn = connections.firstChild.querySelector('b').textContent;
button(connections.firstChild, 'RST').click();
await until('the end of the connection', () => connections.children.length < count);
const left = JSON.parse(await text('/trustctl/connections'));
if (left.some(connection => String(connection.conn) === conn)) return ['it is still open'];

// The seed, with more digits than a number of the page has.
const seed = document.getElementById('set-seed');
fill(seed, {seed: '18446744073709551615'});
seed.requestSubmit();
const about = document.getElementById('about');
await until('the seed', () => about.textContent.endsWith('seed 18446744073709551615'));
await until('faults', () => document.querySelectorAll('#faults li').length > 1);
return [];
