'use strict';

// An element. Texts become text, whatever is in them: nothing on a live page is parsed as markup.
const element = (tag, properties = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};

const span = (className, ...children) => element('span', {className}, ...children);

const byId = id => document.getElementById(id);

// Writes a text only where it differs, so that a selection stays.
const write = (into, text) => {
  if (into.textContent !== String(text)) into.textContent = text;
};

const shownCount = count => count.toLocaleString('en');

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

const shownBytes = bytes => {
  let unit = 0;
  for (; bytes >= 999.5 && unit < UNITS.length - 1; unit += 1) bytes /= 1000;
  return `${unit && bytes < 99.95 ? bytes.toFixed(1) : Math.round(bytes)} ${UNITS[unit]}`;
};

const counted = (count, one, more = `${one}s`) =>
  `${shownCount(count)} ${count === 1 ? one : more}`;

const shownTime = ms => {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
};

// Sends a request; fails with the text that the server gives as the reason.
const ask = async (method, path, body) => {
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
  const answer = await fetch(path, {method, body: text});
  const received = await answer.text();
  if (answer.ok) return received;
  let reason = received;
  try { reason = JSON.parse(received).error; } catch { /* It is no JSON, so it is the reason. */ }
  throw new Error(reason || `status ${answer.status}`);
};

// Has a control send something, and says below it what went wrong.
const act = async (output, work) => {
  output.hidden = true;
  try {
    await work();
    return true;
  } catch (error) {
    write(output, error.message);
    output.hidden = false;
    return false;
  }
};

const complaint = () => element('p', {className: 'bad', role: 'alert', hidden: true});

// The pause after a stream that was refused.
const RETRY_MS = 3000;

// Follows an event stream while the page is seen: a browser has few connections for each server.
const follow = (path, {onState, onMessage, ...named}) => {
  let source = null;
  const open = () => {
    source = new EventSource(path);
    source.onopen = () => onState(true);
    source.onerror = () => {
      onState(false);
      // The browser tries again, unless the answer was an error.
      if (source.readyState === EventSource.CLOSED) setTimeout(reopen, RETRY_MS);
    };
    source.onmessage = message => onMessage(JSON.parse(message.data));
    for (const [name, handle] of Object.entries(named))
      source.addEventListener(name, message => handle(JSON.parse(message.data), message.data));
  };
  const close = () => {
    if (source) source.close();
    source = null;
  };
  const reopen = () => {
    if (!source) return;
    close();
    open();
  };
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) close();
    else if (!source) open();
  });
  open();
};

// Keeps one element for each thing: makes those of new ones, and removes those of others.
const keyed = (parent, key, make) => {
  const present = new Map();
  return things => {
    const wanted = new Set(things.map(key));
    for (const [name, kept] of present) {
      if (wanted.has(name)) continue;
      kept.root.remove();
      present.delete(name);
    }
    things.forEach((thing, place) => {
      const name = key(thing);
      let kept = present.get(name);
      if (!kept) {
        kept = make(thing);
        present.set(name, kept);
      }
      const there = parent.children[place];
      if (there !== kept.root) parent.insertBefore(kept.root, there ?? null);
      kept.update(thing);
    });
  };
};
