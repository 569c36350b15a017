// The attributes of each type of toxic, with what they mean.
const TOXICS = {
  latency: {latency: 'delay, ms', jitter: 'jitter, ms'},
  bandwidth: {rate: 'rate, kB/s'},
  slow_close: {delay: 'delay, ms'},
  timeout: {timeout: 'close after, ms'},
  reset_peer: {timeout: 'reset after, ms'},
  slicer: {average_size: 'bytes per piece', size_variation: 'more or less', delay: 'pause, µs'},
  limit_data: {bytes: 'bytes'},
};

// How many seconds the curves of throughput show, and how many faults are listed.
const SECONDS = 60, FAULTS = 50;

const pathOf = (name, ...rest) =>
  ['/trustctl/proxies', encodeURIComponent(name), ...rest].join('/');

const svg = (tag, attributes) => {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
};

// Bytes per second of both directions, from one report to the next.
const ratesOf = (now, before, seconds) => ['up', 'down'].map(way =>
  before && seconds > 0 ? Math.max(0, (now[way].sent - before[way].sent) / seconds) : 0);

const curve = () => {
  const viewBox = `0 0 ${SECONDS - 1} 1`;
  const root = svg('svg', {viewBox, preserveAspectRatio: 'none', 'aria-hidden': 'true'});
  const lines = ['first', 'second'].map(name => svg('path', {class: name}));
  root.append(...lines);
  const past = [];
  return {
    root,
    update(rates) {
      past.push(rates);
      if (past.length > SECONDS) past.shift();
      const most = Math.max(1, ...past.flat());
      lines.forEach((line, way) => {
        const points = past.map((at, index) =>
          `${SECONDS - past.length + index},${(0.97 - 0.94 * at[way] / most).toFixed(4)}`);
        line.setAttribute('d', `M${points.join('L')}`);
      });
    },
  };
};

// Two rows of numbers, a direction each.
const streams = () => {
  const cells = {};
  const row = (way, word, style) => {
    cells[way] = ['rate', 'received', 'sent', 'held'].map(() => element('td'));
    return element('tr', {}, element('th', {scope: 'row', className: style}, word), ...cells[way]);
  };
  const names = ['', 'rate', 'received', 'sent', 'held'];
  const head = names.map(name => element('th', {scope: 'col'}, name));
  const root = element('table', {},
    element('thead', {}, element('tr', {}, ...head)),
    element('tbody', {}, row('up', 'to upstream', 'first'), row('down', 'to client', 'second')));
  return {
    root,
    update(of, rates) {
      ['up', 'down'].forEach((way, index) => {
        const {received, sent, held} = of[way];
        [`${shownBytes(rates[index])}/s`, ...[received, sent, held].map(shownBytes)]
          .forEach((text, at) => write(cells[way][at], text));
      });
    },
  };
};

const toxicRow = (proxy, toxic, output) => {
  const about = span('grows'), fired = span('soft number');
  const path = pathOf(proxy, 'toxics', encodeURIComponent(toxic.name));
  const remove = element('button', {
    type: 'button',
    onclick: () => act(output, () => ask('DELETE', path)),
    'aria-label': `Remove ${toxic.name}`,
  }, 'Remove');
  return {
    root: element('li', {}, element('b', {}, toxic.name), about, fired, remove),
    update({type, stream, attributes, toxicity, count}) {
      const numbers = Object.entries(attributes).map(([name, value]) => `${name} ${value}`);
      const share = toxicity < 1 ? `, for ${+(100 * toxicity).toFixed(2)} % of connections` : '';
      write(about, `${type} ${stream}${numbers.length ? ': ' : ''}${numbers.join(', ')}${share}`);
      write(fired, count === undefined ? '' : `fired ${shownCount(count)}×`);
    },
  };
};

const ruleRow = () => {
  const text = element('code', {className: 'grows'}), fired = span('soft number');
  return {
    root: element('li', {}, text, fired),
    update(rule) {
      write(text, rule.rule);
      write(fired, `fired ${shownCount(rule.fired)}×`);
    },
  };
};

const toxicForm = (proxy, output) => {
  const types = Object.keys(TOXICS).map(name => element('option', {}, name));
  const type = element('select', {name: 'type'}, ...types);
  const stream = element('select', {name: 'stream'},
    element('option', {value: 'downstream'}, 'to client'),
    element('option', {value: 'upstream'}, 'to upstream'));
  const numbers = span('top');
  const share = element('input',
    {type: 'number', name: 'share', min: 0, max: 100, step: 'any', value: 100});
  const number = ([name, words]) =>
    element('label', {}, words, element('input', {type: 'number', name, value: 0, step: 1}));
  const show = () => numbers.replaceChildren(...Object.entries(TOXICS[type.value]).map(number));
  type.addEventListener('change', show);
  show();
  const send = event => {
    event.preventDefault();
    const inputs = [...numbers.querySelectorAll('input')];
    const attributes = Object.fromEntries(inputs.map(it => [it.name, Number(it.value)]));
    const toxicity = Number(share.value) / 100;
    const body = {type: type.value, stream: stream.value, toxicity, attributes};
    act(output, () => ask('POST', pathOf(proxy, 'toxics'), body));
  };
  return element('form', {onsubmit: send}, element('label', {}, 'type', type),
    element('label', {}, 'direction', stream), numbers,
    element('label', {}, '% of connections', share), element('button', {}, 'Add toxic'));
};

// The rules of a proxy as text. What a user has begun to write is not overwritten.
const scheduleForm = (proxy, output) => {
  let isWritten = false;
  const area = element('textarea', {
    name: 'schedule', spellcheck: false, placeholder: 'rst @ frame 7 byte 13 down',
    'aria-label': `Fault rules of ${proxy}`,
    oninput: () => { isWritten = true; },
  });
  const put = async text => {
    if (await act(output, () => ask('PUT', pathOf(proxy, 'schedule'), text))) {
      isWritten = false;
      if (text === '') area.value = '';
    }
  };
  const send = event => {
    event.preventDefault();
    put(area.value);
  };
  const root = element('form', {onsubmit: send}, area, element('button', {}, 'Put rules'),
    element('button', {type: 'button', onclick: () => put('')}, 'Remove rules'));
  return {
    root,
    update(text) {
      if (!isWritten && area.value !== text) area.value = text;
    },
  };
};

const proxyCard = ({name}) => {
  const output = complaint();
  output.className = 'bad mono';
  const state = span('word'), places = element('p'), clients = element('p', {className: 'soft'});
  let isEnabled = false;
  const toggle = element('button', {
    type: 'button',
    onclick: () => act(output, () => ask('PATCH', pathOf(name), {enabled: !isEnabled})),
  });
  const remove = element('button', {
    type: 'button', 'aria-label': `Delete ${name}`,
    onclick: () => confirm(`Delete the proxy ${name}, and close its connections?`) &&
      act(output, () => ask('DELETE', pathOf(name))),
  }, 'Delete');
  const line = curve(), numbers = streams(), schedule = scheduleForm(name, output);
  const toxicList = element('ul'), ruleList = element('ul');
  const toxics = keyed(toxicList, toxic => toxic.name, toxic => toxicRow(name, toxic, output));
  const rules = keyed(ruleList, rule => rule.key, ruleRow);
  const toxicTitle = element('h4', {}, 'Toxics'), ruleTitle = element('h4', {}, 'Fault rules');
  const root = element('article', {className: 'card'},
    element('div', {className: 'top'},
      element('h3', {}, name), state, span('end', toggle, remove)),
    places, clients, line.root, numbers.root, toxicTitle, toxicList, ruleTitle, ruleList, output,
    element('details', {}, element('summary', {}, 'Add a toxic'), toxicForm(name, output)),
    element('details', {}, element('summary', {}, 'Edit fault rules'), schedule.root));
  return {
    root,
    update({proxy, rates, fired}) {
      isEnabled = proxy.enabled;
      write(state, isEnabled ? 'listening' : 'disabled');
      state.className = isEnabled ? 'word good' : 'word';
      write(toggle, isEnabled ? 'Disable' : 'Enable');
      write(places, `${proxy.listen || 'any address'} → ${proxy.upstream}`);
      const {open, connections, rejected} = proxy;
      write(clients, `${shownCount(open)} open of ${counted(connections, 'connection')} so far` +
        (rejected ? `, ${shownCount(rejected)} rejected` : ''));
      line.update(rates);
      numbers.update(proxy, rates);
      toxics(proxy.toxics.map(toxic => {
        const counts = fired.filter(rule => rule.toxic === toxic.name).map(rule => rule.fired);
        return {...toxic, count: counts.length ? Math.max(...counts) : undefined};
      }));
      const own = fired.filter(rule => rule.toxic === null);
      rules(own.map((rule, index) => ({...rule, key: `${index} ${rule.rule}`})));
      toxicTitle.hidden = !proxy.toxics.length;
      ruleTitle.hidden = !own.length;
      schedule.update(proxy.schedule);
    },
  };
};

const connectionRow = ({conn}) => {
  const output = complaint();
  const where = span('grows'), bytes = span('number'), armed = span('soft grows');
  const end = (by, word) => element('button', {
    type: 'button', 'aria-label': `End connection ${conn} by ${word}`,
    onclick: () => act(output, () => ask('DELETE', `/trustctl/connections/${conn}?by=${by}`)),
  }, word);
  return {
    root: element('li', {}, element('b', {}, `${conn}`), where, bytes, armed,
      span('top', end('fin', 'FIN'), end('rst', 'RST')), output),
    update(it) {
      const upstream = it.upstream ?? 'not connected yet';
      const life = `${it.state}, ${shownTime(it.age_ms)}`;
      write(where, `${it.proxy}: ${it.client} → ${upstream}, ${life}`);
      const ways = [['up', '↑'], ['down', '↓']].map(([way, sign]) => {
        const {received, held, frames} = it[way];
        const whole = frames === null ? '' : `, ${counted(frames, 'frame')}`;
        return `${sign} ${shownBytes(received)}${whole}${held ? `, ${shownBytes(held)} held` : ''}`;
      });
      write(bytes, ways.join('  '));
      const faults = [...it.toxics, ...it.rules];
      write(armed, faults.length ? `armed: ${faults.join(' · ')}` : '');
    },
  };
};

const showFault = event => {
  const byte = event.byte === undefined ? '' : `byte ${shownCount(event.byte)}`;
  const frame = event.frame === undefined ? '' :
    `frame ${shownCount(event.frame)} byte ${shownCount(event.frame_byte)}`;
  const who = event.conn === undefined ? '' : `connection ${event.conn}`;
  const lifted = event.event === 'fault_lifted' ? 'lifted' : '';
  const where = [lifted, who, event.direction, byte, frame].filter(Boolean).join(', ');
  const time = /T(\d\d:\d\d:\d\d\.?\d*)/.exec(event.ts ?? '');
  byId('faults').prepend(element('li', {},
    span('soft number', time ? time[1] : ''),
    element('code', {className: 'grows'}, event.rule ?? event.event),
    span('', where)));
  while (byId('faults').children.length > FAULTS) byId('faults').lastChild.remove();
  byId('no-faults').hidden = true;
};

// Faults that came while the former ones were asked for; null: they are not being asked for.
let waiting = null;

// Shows what has happened before the page was opened, or while it was not seen.
const showFormer = async () => {
  waiting = [];
  let former = [];
  try {
    former = JSON.parse(await ask('GET', '/trustctl/trace')).faults.slice(-FAULTS);
    byId('faults').replaceChildren();
  } catch { /* The stream ends as well then, and its next one asks again. */ }
  const known = new Set(former.map(fault => JSON.stringify(fault)));
  const since = waiting.filter(fault => !known.has(JSON.stringify(fault)));
  waiting = null;
  [...former, ...since].forEach(showFault);
};

const showProxies = keyed(byId('proxies'), ({proxy}) => proxy.name, ({proxy}) => proxyCard(proxy));
const showConnections = keyed(byId('connections'), connection => connection.conn, connectionRow);

let last = null;

const showReport = (report, text) => {
  const before = last && last.uptime_ms <= report.uptime_ms ? last : null;
  const seconds = before ? (report.uptime_ms - before.uptime_ms) / 1000 : 0;
  const former = new Map(before ? before.proxies.map(proxy => [proxy.name, proxy]) : []);
  last = report;
  const all = report.proxies.map(proxy => ({
    proxy,
    rates: ratesOf(proxy, former.get(proxy.name), seconds),
    fired: report.rules.filter(rule => rule.proxy === proxy.name),
  }));
  const sum = of => all.reduce((total, it) => total + of(it), 0);
  write(byId('open'), shownCount(sum(({proxy}) => proxy.open)));
  write(byId('up'), shownBytes(sum(({rates}) => rates[0])));
  write(byId('down'), shownBytes(sum(({rates}) => rates[1])));
  write(byId('held'), shownBytes(sum(({proxy}) => proxy.up.held + proxy.down.held)));
  write(byId('fired'), shownCount(report.rules.reduce((total, rule) => total + rule.fired, 0)));
  // As it was sent: a number of the page has fewer digits.
  const [, seed] = /"seed":(\d+)/.exec(text);
  const life = `up for ${shownTime(report.uptime_ms)}, seed ${seed}`;
  write(byId('about'), `trustctl ${report.version}, ${life}`);
  byId('no-proxies').hidden = all.length > 0;
  showProxies(all);
  const {connections} = report, open = sum(({proxy}) => proxy.open);
  showConnections(connections);
  byId('no-connections').hidden = connections.length > 0;
  const some = `the newest ${connections.length} of ${shownCount(open)}`;
  write(byId('shown-of'), open > connections.length ? some : '');
  // With one report there are no rates.
  if (before) document.documentElement.dataset.ready = 'yes';
};

for (const [id, send] of [
  ['add-proxy', form => ask('POST', '/trustctl/proxies', Object.fromEntries(new FormData(form)))],
  // As text, for the same reason.
  ['set-seed', form => ask('POST', '/trustctl/seed', `{"seed":${new FormData(form).get('seed')}}`)],
]) {
  const form = byId(id), output = complaint();
  form.append(output);
  form.addEventListener('submit', async event => {
    event.preventDefault();
    if (await act(output, () => send(form))) form.reset();
  });
}

follow('/trustctl/report', {
  onState(isThere) {
    write(byId('state'), isThere ? 'live' : 'not connected');
    byId('state').className = isThere ? 'word good' : 'word bad';
  },
  onMessage(event) {
    if (event.event === 'follow_start') showFormer();
    else if (event.event === 'follow_lost')
      showFault({event: `${shownCount(event.count)} events were too fast for this page`});
    else if (waiting) waiting.push(event);
    else showFault(event);
  },
  report: showReport,
});
