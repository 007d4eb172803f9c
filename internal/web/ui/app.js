// The UI: a reader of the API, without dependencies. Everything from the
// server is put into the page as text, never as HTML.
const $ = (selector, root = document) => root.querySelector(selector);
const tone = {
  Synced: 'good', Healthy: 'good', Ready: 'good',
  OutOfSync: 'busy', Progressing: 'busy', Suspended: 'busy', Missing: 'busy',
  Degraded: 'bad', Unknown: 'bad', Failed: 'bad',
};
let token = sessionStorage.getItem('token') ?? '';
let selected = null;

// A token in the fragment was never sent to a server; it is taken out of the
// address at once, so that it is not copied with it.
const fragment = new URLSearchParams(location.hash.slice(1));
if (fragment.has('token')) {
  token = fragment.get('token');
  sessionStorage.setItem('token', token);
  history.replaceState(null, '', location.pathname);
}

function cell(row, text, className) {
  const td = row.insertCell();
  td.textContent = text ?? '';
  if (className) td.className = className;
  return td;
}

function show(deliveries) {
  const body = $('#deliveries tbody');
  body.replaceChildren();
  for (const d of deliveries) {
    const row = body.insertRow();
    const name = cell(row, '');
    const button = document.createElement('button');
    button.textContent = d.name;
    name.append(button);
    const where = document.createElement('div');
    where.className = 'small';
    where.textContent = `${d.kind} in ${d.namespace}${d.pinned ? `, pinned to ${d.pinned}` : ''}`;
    name.append(where);
    cell(row, d.sync, tone[d.sync]);
    cell(row, d.health, tone[d.health]);
    cell(row, d.revision, 'mono');
    cell(row, `${d.source} ${d.path}`, 'small');
    cell(row, d.target, 'small');
    row.onclick = () => { selected = d; detail(); };
  }
  $('#none').hidden = deliveries.length > 0;
  if (selected) detail();
}

// Where deliveries come from is no part of the stream: it is asked for, and a
// list that cannot be had leaves the last one.
let sourcesAsked = 0;

async function sources() {
  if (Date.now() - sourcesAsked < 5000) return;
  sourcesAsked = Date.now();
  const answer = await fetch('api/v1/sources', { headers: { Authorization: `Bearer ${token}` } }).catch(() => null);
  if (!answer?.ok) return;
  const list = await answer.json();
  const body = $('#sources tbody');
  body.replaceChildren();
  for (const s of list) {
    const row = body.insertRow();
    const name = cell(row, s.name);
    const where = document.createElement('div');
    where.className = 'small';
    where.textContent = `${s.kind} in ${s.namespace}`;
    name.append(where);
    const state = s.suspended ? 'Suspended' : { True: 'Ready', False: 'Failed' }[s.ready] ?? 'Unknown';
    cell(row, state, tone[state]);
    cell(row, s.revision, 'mono');
    cell(row, s.url, 'small');
    cell(row, s.ready === 'True' ? '' : s.message, 'small');
  }
  $('#sources').hidden = list.length === 0;
}

async function detail() {
  const { kind, namespace, name } = selected;
  const path = [kind, namespace, name].map(encodeURIComponent).join('/');
  const answer = await fetch(`api/v1/deliveries/${path}`, { headers: { Authorization: `Bearer ${token}` } });
  const section = $('#detail');
  if (!answer.ok) { section.hidden = true; selected = null; return; }
  const d = await answer.json();
  $('h2', section).textContent = `${d.name}: ${d.sync}, ${d.health}`;
  $('.message', section).textContent = d.message ?? '';
  const resources = $('.resources tbody', section);
  resources.replaceChildren();
  for (const r of d.resources ?? []) {
    const row = resources.insertRow();
    cell(row, r.kind);
    cell(row, r.namespace ? `${r.namespace}/${r.name}` : r.name);
    cell(row, r.sync, tone[r.sync]);
    cell(row, r.health, tone[r.health]);
    cell(row, r.message, 'small');
  }
  const past = $('.history tbody', section);
  past.replaceChildren();
  for (const h of d.history ?? []) {
    const row = past.insertRow();
    cell(row, h.id);
    cell(row, h.revision, 'mono');
    cell(row, new Date(h.at).toLocaleString());
    cell(row, h.by);
  }
  section.hidden = false;
}

function login(reason) {
  $('#main').hidden = true;
  $('#login').hidden = false;
  $('#refused').textContent = token ? reason : '';
  $('#live').textContent = 'logged out';
}

$('#login').onsubmit = (event) => {
  event.preventDefault();
  token = $('#token').value.trim();
  sessionStorage.setItem('token', token);
  listen();
};

// EventSource cannot send a credential, so the stream is read with fetch.
async function listen() {
  try {
    const answer = await fetch('api/v1/events', { headers: { Authorization: `Bearer ${token}` } });
    if (answer.status === 401 || answer.status === 403) {
      login((await answer.json()).error);
      return;
    }
    if (!answer.ok) throw new Error((await answer.json()).error);
    $('#login').hidden = true;
    $('#main').hidden = false;
    $('#live').textContent = 'live';
    await read(answer.body);
  } catch (error) {
    $('#live').textContent = `away: ${error.message}`;
  }
  setTimeout(listen, 2000);
}

async function read(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    const events = buffer.split('\n\n');
    buffer = events.pop();
    for (const event of events) {
      const kind = /^event: (.*)$/m.exec(event)?.[1];
      const data = /^data: (.*)$/m.exec(event)?.[1];
      if (kind === 'deliveries') {
        show(JSON.parse(data));
        sources();
      }
      if (kind === 'trouble') $('#live').textContent = JSON.parse(data);
    }
  }
}

setInterval(() => { if (!$('#main').hidden && !document.hidden) sources(); }, 10000);
listen();
