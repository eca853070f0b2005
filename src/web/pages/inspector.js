// ================================================================ model
/** What the page knows. `all` is in order of arrival; `shown` is what the filter leaves of it. The list shows newest first. */
const S = {
  all: [], byId: new Map(), shown: [], bindings: [], link: { state: 'connecting' }, traffic: [], rates: { in: 0, out: 0, rps: 0 },
  sel: null, detail: null, bodies: {}, revealed: new Set(), tab: 'exchange', sideTab: 'response', view: { request: 'pretty', response: 'pretty' },
  paused: false, held: new Set(), fresh: 0, asked: false, test: () => true, chips: new Set(), bodyHits: null,
};
let source; // where it comes from: the driver, see apiSource

// ---------------------------------------------------------------- filter
const FIELDS = [
  ['status', '5xx, 404, >=400, none'], ['method', 'POST, GET,PUT'], ['path', '/hook, /api/*/items'], ['body', '"text" in either body'],
  ['header', '"stripe-signature" or "name: text"'], ['type', 'json, image, html'], ['dur', '>500ms, <2s'], ['size', '>10kb'],
  ['visitor', '203.0.113'], ['binding', 'web'], ['is', 'error, running, ws, sse, replay, imported'],
];
const SCALE = { b: 1, kb: 1e3, mb: 1e6, ms: 1, s: 1e3, m: 6e4 };

/** A filter as tests that all must hold. Throws with words for the person when a term makes no sense. */
function parseFilter(text) {
  const out = { tests: [], server: [] };
  for (const m of text.matchAll(/(-?)(?:([a-z]+):)?("(?:[^"\\]|\\.)*"?|\S+)/gi)) {
    const neg = m[1] === '-', field = m[2]?.toLowerCase(), value = m[3].replace(/^"|"$/g, '').replace(/\\(.)/g, '$1');
    if (field && (value === '' || value === '"')) continue; // still being typed
    if (field === 'body' || field === 'header') { out.server.push({ field, value, neg }); continue; }
    const t = fieldTest(field, value);
    out.tests.push(neg ? (x) => !t(x) : t);
  }
  return out;
}
function fieldTest(field, v) {
  const low = v.toLowerCase();
  switch (field) {
    case undefined: return (x) => x.target.toLowerCase().includes(low) || x.method.toLowerCase() === low;
    case 'status': return statusTest(low);
    case 'method': { const set = low.split(','); return (x) => set.includes(x.method.toLowerCase()); }
    case 'path': return globTest(low, (x) => x.target);
    case 'type': return (x) => (x.type ?? '').includes(low);
    case 'visitor': return (x) => x.visitor.startsWith(low);
    case 'binding': return (x) => x.binding.toLowerCase() === low;
    case 'dur': return boundTest(v, (x) => x.durationMs ?? Date.now() - x.startedAt);
    case 'size': return boundTest(v, (x) => x.responseBytes ?? 0);
    case 'is': return isTest(low);
    default: throw new Error(`There is no field “${field}”. Fields: ${FIELDS.map((f) => f[0]).join(', ')}`);
  }
}
function statusTest(v) {
  if (v === 'none') return (x) => x.status === null;
  if (/^[1-5]xx$/.test(v)) return (x) => Math.floor(x.status / 100) === +v[0];
  if (/^\d{3}$/.test(v)) return (x) => x.status === +v;
  if (/^[<>]=?\d{3}$/.test(v)) return boundTest(v, (x) => x.status ?? NaN);
  if (/^[<>]?=?[1-5]?[\dx]{0,2}$/.test(v)) return () => true;
  throw new Error('status: wants 404, 5xx, >=400 or none');
}
function boundTest(v, get) {
  const m = /^([<>]=?)?([\d.]+)(b|kb|mb|ms|s|m)?$/i.exec(v);
  if (!m) { if (/^[<>]=?$/.test(v)) return () => true; throw new Error('wants a number with a bound, such as >500ms or <10kb'); }
  const n = m[2] * (SCALE[m[3]?.toLowerCase()] ?? 1);
  return { '>': (x) => get(x) > n, '>=': (x) => get(x) >= n, '<': (x) => get(x) < n, '<=': (x) => get(x) <= n }[m[1] ?? '>='];
}
function globTest(v, get) {
  if (!v.includes('*')) return (x) => get(x).toLowerCase().includes(v);
  const re = new RegExp(v.split('*').map((p) => p.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('[^?]*'), 'i');
  return (x) => re.test(get(x));
}
function isTest(v) {
  const t = { error: isError, running: (x) => x.state === 'running', ws: (x) => x.kind === 'websocket', sse: (x) => x.kind === 'sse', replay: (x) => !!x.replayOf, imported: (x) => x.imported, slow: (x) => (x.durationMs ?? 0) >= 1000 && x.kind === 'http' }[v];
  if (t) return t;
  if (['error', 'running', 'replay', 'imported', 'slow'].some((w) => w.startsWith(v))) return () => true;
  throw new Error('is: takes error, running, ws, sse, replay, imported or slow');
}
const isError = (x) => (x.state === 'failed' && x.error.code !== 'visitor_left') || x.status >= 400;

const CHIPS = [
  ['error', 'Errors', isError], ['hooks', 'POST', (x) => x.method === 'POST'], ['slow', 'Slow', isTest('slow')],
  ['run', 'Running', (x) => x.state === 'running'], ['ws', 'WebSocket', (x) => x.kind === 'websocket', 'opt'], ['sse', 'Streaming', (x) => x.kind === 'sse' || x.kind === 'stream', 'opt'], ['replay', 'Replays', (x) => !!x.replayOf, 'opt'],
];

let filterRun = 0;
/**
 * Applies what stands in the box. Bodies and headers are not in the page, so those terms ask the driver and show that they
 * wait; they ask again when more has come (`again`), and the list stays where it is.
 */
async function applyFilter(again) {
  const box = $('#filter'), run = ++filterRun;
  let f;
  try { f = parseFilter(box.value); } catch (e) { box.setAttribute('aria-invalid', 'true'); $('#filterNote').textContent = e.message; return; }
  box.removeAttribute('aria-invalid');
  $('#filterNote').textContent = '';
  const hits = [];
  if (f.server.length) {
    $('.search').classList.add('busy');
    let partial = false;
    try {
      for (const q of f.server) { const got = await source.find(q.field, q.value); partial ||= got.partial; hits.push({ neg: q.neg, ids: new Set(got.ids) }); }
    } catch (e) { $('#filterNote').textContent = e.message; return; }
    if (run !== filterRun) return; // typed on meanwhile
    if (partial) $('#filterNote').textContent = 'There is more than could be searched in time: only the newest requests were.';
  }
  $('.search').classList.remove('busy');
  const chips = CHIPS.filter(([id]) => S.chips.has(id)).map((c) => c[2]);
  S.test = (x) => f.tests.every((t) => t(x)) && chips.every((t) => t(x)) && hits.every((q) => q.ids.has(x.id) !== q.neg);
  S.filtered = f.tests.length + chips.length + hits.length > 0;
  S.asked = f.server.length > 0;
  S.shown = S.all.filter(S.test);
  if (!again) { S.fresh = 0; $('#list').scrollTop = 0; }
  refresh();
}
let askPending = 0;
const askAgain = () => { if (S.asked && !askPending) askPending = setTimeout(() => { askPending = 0; applyFilter(true); }, 1000); };

// ================================================================ list
/** Only the rows in sight exist; they are used again and moved with a transform, so scrolling costs no layout of others. */
const list = {
  rows: [], rowH: 32,
  measure() { this.rowH = matchMedia('(max-width: 560px)').matches ? 52 : 32; this.viewH = $('#list').clientHeight; },
  at: (i) => S.shown[S.shown.length - 1 - i],
  indexOf(x) { const i = S.shown.lastIndexOf(x); return i < 0 ? -1 : S.shown.length - 1 - i; },
  draw() {
    const view = $('#list'), n = S.shown.length, rowH = this.rowH;
    if (this.n !== n || this.h !== rowH) { $('#rows').style.height = `${n * rowH}px`; this.n = n; this.h = rowH; }
    const first = Math.max(0, Math.floor(view.scrollTop / rowH) - 4), last = Math.min(n, Math.ceil((view.scrollTop + this.viewH) / rowH) + 4);
    while (this.rows.length < last - first) { const r = makeRow(); this.rows.push(r); $('#rows').append(r.el); }
    // Row i lives in slot i mod (number of slots): while it stays in sight it keeps its element.
    const slots = this.rows.length, used = new Set();
    for (let i = first; i < last; i++) { used.add(i % slots); fillRow(this.rows[i % slots], this.at(i), i); }
    this.rows.forEach((r, k) => { if (!used.has(k) && r.i !== -1) { r.el.hidden = true; r.i = -1; r.x = null; } });
  },
  reveal(i) {
    const v = $('#list'), top = i * this.rowH;
    if (top < v.scrollTop) v.scrollTop = top; else if (top + this.rowH > v.scrollTop + this.viewH) v.scrollTop = top + this.rowH - this.viewH;
  },
};
function makeRow() {
  const c = {}, cell = (k, cls = k) => (c[k] = h('span', { class: cls }));
  const el = h('div', { class: 'row', role: 'option' }, cell('t'), cell('m'), cell('p', 'p foreign'), cell('s', 's'), cell('ty'), cell('sz', 'sz r'), cell('du', 'du r'), (c.wf = h('span', { class: 'wf', 'aria-hidden': 'true' }, h('b', { class: 'w1' }), h('b', { class: 'w2' }), h('b', { class: 'w3' }))), cell('v', 'v foreign'), cell('b'));
  return { el, c, i: -1 };
}
const STATE_WORDS = { websocket: 'open', sse: 'live', stream: 'live', http: 'waiting' };
/** Status as text and class: running is violet, a visitor who left is grey and not an error. */
function statusOf(x) {
  if (x.state === 'failed') return x.error.code === 'visitor_left' ? [`${x.status ?? ''} left`.trim(), 'gone'] : [`${x.status ?? ''} ✕`.trim(), 'fail'];
  if (x.state === 'running') return [`${x.status ?? ''} ${STATE_WORDS[x.kind]}`.trim(), 'run'];
  return [String(x.status), `s${x.status === 101 ? 2 : Math.floor(x.status / 100)}`];
}
function fillRow(r, x, i) {
  if (r.i !== i) { r.el.hidden = false; r.el.style.transform = `translateY(${i * list.rowH}px)`; r.el.id = `row${i}`; r.el.setAttribute('aria-setsize', S.shown.length); r.el.setAttribute('aria-posinset', i + 1); r.i = i; }
  const sel = String(x.id === S.sel);
  if (r.sel !== sel) { r.el.setAttribute('aria-selected', sel); r.sel = sel; }
  if (r.x === x && r.v === x.v && x.state !== 'running') return;
  r.x = x; r.v = x.v;
  const { c } = r, [st, cls] = statusOf(x), ms = x.durationMs ?? Date.now() - x.startedAt;
  c.t.textContent = clockTime(x.startedAt);
  c.m.textContent = x.method; c.m.className = /^(GET|HEAD|OPTIONS)$/.test(x.method) ? 'm safe' : 'm';
  put(c.p, ...(x.replayOf ? [h('i', {}, x.edited ? 'edited' : 'replay')] : x.imported ? [h('i', {}, 'imported')] : []), oneLine(x.target.length > 300 ? x.target.slice(0, 300) : x.target));
  c.s.textContent = st; c.s.className = `s st ${cls}`;
  c.ty.textContent = shortType(x);
  c.sz.textContent = bytes(x.responseBytes); c.du.textContent = duration(ms);
  c.du.className = `du r ${isTest('slow')(x) ? 'slow' : ''}`;
  c.v.textContent = oneLine(x.visitor); c.b.textContent = oneLine(x.binding);
  r.el.classList.toggle('isbad', cls === 'fail' || x.status >= 500);
  drawWaterfall(c.wf, x, ms);
}
const shortType = (x) => (x.kind === 'websocket' ? 'websocket' : (x.type ?? '').split(';')[0].replace(/^(application|text)\//, '').replace(/^x-www-form-urlencoded$/, 'form').replace(/^vnd\..*\+/, '') || '–');
/** The length is logarithmic, 1 ms to 30 s; its parts are connecting, waiting and receiving. */
function drawWaterfall(wf, x, ms) {
  const len = Math.min(1, Math.max(0.04, Math.log10(Math.max(ms, 1)) / 4.5)), t = x.timing ?? {}, all = Math.max(ms, 0.001);
  wf.className = x.state === 'running' ? 'wf run' : 'wf';
  const part = [(t.connect ?? 0) + (t.queued ?? 0), (t.send ?? 0) + (t.wait ?? 0), t.receive ?? 0];
  [...wf.children].forEach((b, k) => { b.style.width = x.state === 'running' ? '0' : `${(part[k] / all * len * 100).toFixed(1)}%`; });
}

let drawPending = false;
function refresh() { if (!drawPending) { drawPending = true; requestAnimationFrame(() => { drawPending = false; redraw(); }); } }
function redraw() {
  list.draw();
  const n = S.shown.length, of = S.all.length;
  $('#count').textContent = S.paused ? `Paused · ${S.held.size} held back` : S.filtered ? `${n.toLocaleString('en')} of ${of.toLocaleString('en')}` : `${of.toLocaleString('en')} request${of === 1 ? '' : 's'}`;
  $('#fresh').hidden = !S.fresh;
  put($('#fresh'), icon('up'), `${S.fresh} new`);
  drawEmpty();
  const i = S.sel ? list.indexOf(S.byId.get(S.sel)) : -1;
  if (i >= 0) $('#list').setAttribute('aria-activedescendant', `row${i}`); else $('#list').removeAttribute('aria-activedescendant');
}

/** A new exchange goes on top. Whoever has scrolled down keeps what is before the eyes and is told how many came. */
function upsert(x) {
  const old = S.byId.get(x.id);
  if (old && old.state !== 'running' && x.state === 'running') return; // the answer to a replay may come behind the word that it has ended
  if (x.state !== 'running') askAgain();
  if (old) { Object.assign(old, x); old.v = (old.v ?? 0) + 1; if (S.sel === x.id) detailChanged(old); refilter(old); refresh(); return; }
  if (S.paused && !x.replayOf) { S.held.add(x.id); refresh(); return; } // what one sends oneself is shown all the same
  x.v = 0;
  S.all.push(x); S.byId.set(x.id, x);
  if (S.test(x)) {
    S.shown.push(x);
    const v = $('#list');
    if (v.scrollTop > 4) { $('#rows').style.height = `${S.shown.length * list.rowH}px`; list.n = S.shown.length; v.scrollTop += list.rowH; S.fresh++; }
  }
  refresh();
}
/** A filter may look at what has changed: a status, a duration. A row that fits no more stays until the filter is used again. */
function refilter(x) {
  if (!S.filtered || !S.test(x) || S.shown.includes(x)) return;
  const at = S.shown.findLastIndex((y) => y.startedAt <= x.startedAt);
  S.shown.splice(at + 1, 0, x);
}
function removeOldest(ids) { const gone = new Set(ids); S.all = S.all.filter((x) => !gone.has(x.id)); S.shown = S.shown.filter((x) => !gone.has(x.id)); ids.forEach((i) => S.byId.delete(i)); refresh(); }

// ================================================================ top bar
function drawLink() {
  const l = S.link, [cls, word] = { connected: ['ok', 'Connected'], connecting: ['warn', 'Connecting'], reconnecting: ['warn', 'Reconnecting'], ended: ['bad', 'Ended'], gone: ['bad', 'Driver gone'], locked: ['bad', 'No token'] }[l.state];
  put($('#link'), h('span', { class: `pill ${cls}`, title: l.kit ?? '' }, h('span', { class: `dot ${l.state === 'reconnecting' ? 'beat' : ''}` }), word, l.state === 'connected' && h('b', { class: 'num' }, duration(l.rttMs))));
  drawBanner(l);
}
function drawBanner(l) {
  const b = $('#banner');
  b.className = 'banner'; b.hidden = false;
  if (l.state === 'reconnecting') put(b, `The link to the kit is lost. Trying again${l.retryInMs > 0 ? ` in ${Math.ceil(l.retryInMs / 1000)} s` : ''}.`, h('span', {}, l.graceMs > 0 ? `The ports stay yours for another ${Math.ceil(l.graceMs / 1000)} s; until then visitors get 503 and are asked to come back.` : oneLine(l.reason ?? '')), h('span', { class: 'grow' }), button({ label: 'Try now', icon: 'replay', onClick: () => source.reconnect() }));
  else if (l.state === 'ended') { b.classList.add('bad'); put(b, `The session has ended: ${oneLine(l.reason ?? 'the driver stops')}.`, h('span', {}, 'Start the driver again to go on. What was captured stays here until it stops.')); }
  else if (l.state === 'gone') { b.classList.add('bad'); put(b, 'The driver does not answer any more.', h('span', {}, 'This page still holds what it has seen.'), h('span', { class: 'grow' }), button({ label: 'Export HAR', icon: 'out', onClick: exportHar })); }
  else if (l.state === 'locked') { b.classList.add('bad'); put(b, 'This page needs the token of the driver that runs now.', h('span', {}, 'The driver prints an address with the token behind #. Open that one.')); }
  else b.hidden = true;
}
function drawBindings() {
  const max = innerWidth < 900 ? 9 : innerWidth > 1300 ? 2 : 1;
  const chips = S.bindings.slice(0, max).map(bindingChip), rest = S.bindings.length - max;
  if (rest > 0) chips.push(button({ label: `+${rest}`, title: `${rest} more bindings`, cls: 'quiet', 'aria-label': `${rest} more bindings`, onClick: showBindings }));
  put($('#bindings'), ...chips);
}
const isLink = (url) => /^https?:\/\//.test(url ?? '');
function bindingChip(b) {
  return h('div', { class: `binding ${b.target.reachable ? '' : 'down'}`, title: `${b.url ?? `port ${b.port}`} → ${b.target.address}${b.target.reachable ? '' : ' (does not answer)'}` },
    h('span', { class: 'dot', role: 'img', 'aria-label': b.target.reachable ? 'service answers' : 'service does not answer' }), h('span', { class: 'name' }, b.name),
    isLink(b.url) ? h('a', { class: 'cut', href: b.url, target: '_blank', rel: 'noopener noreferrer' }, b.url.replace(/^https?:\/\//, '')) : h('span', { class: 'cut muted' }, `${b.mode} ${b.port} ← ${b.target.address}`),
    b.url && button({ icon: 'copy', title: `Copy URL of ${b.name}`, cls: 'quiet tiny', onClick: () => copyText(b.url, 'URL') }),
    b.qr && button({ icon: 'qr', title: `QR code of ${b.name}`, cls: 'quiet tiny', onClick: () => showQr(b.url, b.qr) }));
}
function showBindings() { openDialog({ title: 'Bindings', body: h('div', { class: 'stack' }, S.bindings.map((b) => h('div', {}, bindingChip(b), h('p', { class: 'muted' }, `container port ${b.port} · ${b.mode} · leads to ${b.target.address}`)))) }); }
function drawTraffic() {
  const r = S.rates;
  put($('#traffic'), spark(S.traffic, 120, 30, 'Traffic of the last minute'), h('div', { class: 'rates num' }, h('div', {}, h('b', {}, `${r.rps.toFixed(1)}`), ' req/s'), h('div', {}, h('b', {}, `${bytes(r.in + r.out)}`), '/s')));
}

// ================================================================ empty state
function drawEmpty() {
  const e = $('#empty');
  $('#listPane').classList.toggle('bare', !S.all.length);
  if (S.shown.length) { e.hidden = true; return; }
  const kind = S.all.length ? 'filter' : 'start';
  e.hidden = false;
  if (e.dataset.kind === kind && kind === 'filter') return;
  e.dataset.kind = kind;
  put(e, kind === 'filter' ? noMatch() : hello());
}
function noMatch() {
  return h('div', { class: 'hello' }, h('div', {}, h('h2', {}, 'Nothing matches this filter'), h('p', { class: 'lead' }, `${S.all.length.toLocaleString('en')} requests are hidden.`)), h('div', {}, button({ label: 'Clear the filter', cls: 'primary', onClick: clearFilter })));
}
function hello() {
  const b = S.bindings.find((x) => x.url);
  if (!b) return h('div', { class: 'hello' }, h('div', {}, h('h2', {}, 'No binding yet'), h('p', { class: 'lead' }, 'Expose a port of this machine to begin:')), cmd('hoody-tunnel expose 3000'));
  return h('div', { class: 'hello' }, h('div', {}, h('h2', {}, 'Waiting for the first request'), h('p', { class: 'lead' }, 'Whatever comes in through the tunnel shows up here at once.')),
    h('ol', {},
      h('li', {}, h('h3', {}, b.target.reachable ? 'Your service answers' : 'Start your service'), b.target.reachable ? h('p', { class: 'muted' }, `Something listens on ${b.target.address}.`) : h('p', {}, `Nothing listens on ${b.target.address} yet. Start it there, or expose another port.`)),
      h('li', {}, h('h3', {}, 'Open your URL, or give it to a webhook'), h('div', { class: 'cmd' }, h('code', {}, b.url), button({ icon: 'copy', title: 'Copy URL', cls: 'quiet tiny', onClick: () => copyText(b.url, 'URL') }), b.qr && button({ icon: 'qr', title: 'QR code', cls: 'quiet tiny', onClick: () => showQr(b.url, b.qr) }))),
      h('li', {}, h('h3', {}, 'Or send one from here'), cmd(`curl -i ${b.url}/`))));
}
const cmd = (text) => h('div', { class: 'cmd' }, h('code', {}, text), button({ icon: 'copy', title: 'Copy command', cls: 'quiet tiny', onClick: () => copyText(text, 'Command') }));
function clearFilter() { $('#filter').value = ''; S.chips.clear(); drawChips(); applyFilter(); $('#list').focus(); }

// ================================================================ detail
let selRun = 0;
async function select(id, focus) {
  const run = ++selRun;
  S.sel = id; S.detail = null; S.bodies = {};
  const x = S.byId.get(id);
  refresh();
  if (!id) { closeDetail(); return; }
  if (S.tab === 'stream' && !hasStream(x) || S.tab === 'compare' && !x.replayOf) S.tab = 'exchange';
  if (hasStream(x) && S.tab === 'exchange') S.tab = 'stream';
  $('#main').classList.add('open'); $('#detail').hidden = false; $('#split').hidden = false;
  list.measure();
  drawHead(x);
  let d;
  try { d = await source.exchange(id); } catch (e) { if (run === selRun) { toast(e.message); closeDetail(); } return; }
  if (run !== selRun) return;
  S.detail = d;
  const load = (side) => (d[side]?.body.size ? source.body(id, side) : Promise.resolve(new Uint8Array()));
  [S.bodies.request, S.bodies.response] = await Promise.all([load('request'), load('response')].map((p) => p.catch(() => new Uint8Array())));
  if (run !== selRun) return;
  drawBody();
  if (focus) $('#detail').focus();
}
function closeDetail() { S.sel = null; selRun++; $('#main').classList.remove('open'); $('#detail').hidden = true; $('#split').hidden = true; list.measure(); refresh(); $('#list').focus(); }
const hasStream = (x) => x && (x.kind === 'websocket' || x.kind === 'sse');
let changePending = 0;
/** The selected exchange goes on: its figures are drawn anew, its body when it ends. */
function detailChanged(x) {
  if (changePending) return;
  changePending = setTimeout(() => { changePending = 0; if (S.sel !== x.id) return; if (x.state !== 'running' && S.detail?.state === 'running') select(x.id); else drawHead(x); }, 250);
}

function drawHead(x) {
  const box = $('#detail');
  if (!$('.dhead', box)) put(box, h('div', { class: 'dhead' }), h('div', { class: 'tabs', role: 'tablist', 'aria-label': 'Views' }), h('div', { id: 'dbody', role: 'tabpanel' }));
  const [st, cls] = statusOf(x), q = x.target.indexOf('?'), clean = oneLine(x.target);
  const cut = q < 0 ? clean.length : oneLine(x.target.slice(0, q)).length;
  const origin = x.replayOf && S.byId.get(x.replayOf);
  put($('.dhead', box), 
    h('div', { class: 'dtitle' }, h('h2', { class: 'durl foreign' }, h('span', { class: 'm' }, x.method), clean.slice(0, cut), h('span', { class: 'q' }, clean.slice(cut))), button({ icon: 'close', title: 'Close (Esc)', cls: 'quiet', onClick: closeDetail })),
    h('div', { class: 'dmeta num' }, h('span', { class: `pill ${pillOf(cls)}` }, x.state === 'running' && h('span', { class: 'dot beat' }), cls === 'fail' ? x.error.title : cls === 'gone' ? 'Visitor left' : st + (x.state === 'done' && REASON[x.status] ? ` ${REASON[x.status]}` : '')),
      h('span', {}, clockMs(x.startedAt)), h('span', {}, h('b', {}, duration(x.durationMs ?? Date.now() - x.startedAt))), h('span', {}, '↑ ', h('b', {}, bytes(x.requestBytes)), '  ↓ ', h('b', {}, bytes(x.responseBytes))), h('span', { class: 'foreign' }, 'from ', h('b', {}, oneLine(x.visitor))), h('span', {}, 'via ', h('b', {}, oneLine(x.binding))),
      origin && h('span', {}, x.edited ? 'edited from ' : 'replay of ', h('button', { type: 'button', class: 'linkbtn', on: { click: () => select(origin.id) } }, clockTime(origin.startedAt)))),
    h('div', { class: 'dacts' },
      button({ label: 'Replay', icon: 'replay', cls: 'primary', disabled: x.kind === 'websocket', onClick: () => replay(x) }), button({ label: 'Edit & replay', icon: 'edit', disabled: x.kind === 'websocket', onClick: () => openEditor(x) }),
      button({ label: 'curl', icon: 'copy', title: 'Copy as curl (c)', onClick: () => copyAs(x, 'curl') }), button({ label: 'fetch', icon: 'copy', title: 'Copy as fetch', onClick: () => copyAs(x, 'fetch') }),
      button({ label: 'Body', icon: 'down', title: 'Download the response body (d)', disabled: !x.responseBytes, onClick: () => downloadBody(x, 'response') }),
      x.replayOf && button({ label: 'Compare', icon: 'diff', onClick: () => { S.tab = 'compare'; drawHead(x); drawBody(); } })),
    x.timing && timingBar(x));
  drawTabs(x);
}
const pillOf = (cls) => ({ s2: 'ok', s3: 'info', s4: 'warn', s5: 'bad', fail: 'bad', run: 'live', gone: '' })[cls];
const REASON = { 200: 'OK', 201: 'Created', 202: 'Accepted', 204: 'No Content', 301: 'Moved Permanently', 302: 'Found', 304: 'Not Modified', 400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden', 404: 'Not Found', 409: 'Conflict', 413: 'Content Too Large', 422: 'Unprocessable Content', 429: 'Too Many Requests', 500: 'Internal Server Error', 502: 'Bad Gateway', 503: 'Service Unavailable', 504: 'Gateway Timeout', 101: 'Switching Protocols' };
const PHASES = [['queued', 'Tunnel'], ['connect', 'Connect to service'], ['send', 'Send'], ['wait', 'Service works'], ['receive', 'Receive']];
function timingBar(x) {
  const parts = PHASES.map(([k, word], i) => ({ k, word, i, ms: x.timing[k] ?? 0 })).filter((p) => p.ms > 0), sum = parts.reduce((a, p) => a + p.ms, 0) || 1;
  return h('div', { class: 'timing' }, h('div', { class: 'bar', role: 'img', 'aria-label': parts.map((p) => `${p.word} ${duration(p.ms)}`).join(', ') }, parts.map((p) => h('b', { class: `p${p.i}`, style: { flex: `${p.ms / sum} 0 0` } }))),
    h('ul', { class: 'num', 'aria-hidden': 'true' }, parts.map((p) => h('li', {}, h('i', { class: `p${p.i}` }), p.word, h('b', {}, duration(p.ms))))));
}
function drawTabs(x) {
  const tabs = [hasStream(x) && ['stream', x.kind === 'sse' ? 'Events' : 'Frames', x.frames], ['exchange', hasStream(x) ? 'Headers' : 'Exchange'], x.replayOf && ['compare', 'Compare with the original']].filter(Boolean);
  const bar = $('.tabs', $('#detail'));
  bar.hidden = tabs.length < 2;
  put(bar, ...tabs.map(([id, word, n]) => tabButton(word, n, S.tab === id, () => { S.tab = id; drawHead(x); drawBody(); })));
}
/** Tabs as the ARIA practices want them: one tab stop, arrows move. */
function tabButton(word, n, on, pick) {
  return h('button', { type: 'button', role: 'tab', 'aria-selected': String(on), tabindex: on ? '0' : '-1', on: { click: pick, keydown: (e) => {
    const d = { ArrowRight: 1, ArrowLeft: -1 }[e.key]; if (!d) return;
    const all = [...e.target.parentNode.children], bar = e.target.parentNode, to = (all.indexOf(e.target) + d + all.length) % all.length;
    all[to].click(); bar.children[to]?.focus();
  } } }, word, n !== undefined && h('span', { class: 'num' }, ` ${n.toLocaleString('en')}`));
}
function drawBody() {
  const x = S.byId.get(S.sel), d = S.detail;
  if (!d) return;
  put($('#dbody'), S.tab === 'stream' ? streamView(x) : S.tab === 'compare' ? compareView(x) : sidesView(x, d));
}
function sidesView(x, d) {
  const tabs = h('div', { class: 'tabs sidetabs', role: 'tablist', 'aria-label': 'Side' }, ['request', 'response'].map((side) => tabButton(side === 'request' ? 'Request' : 'Response', undefined, S.sideTab === side, () => { S.sideTab = side; drawBody(); })));
  return h('div', { style: { display: 'contents' } }, tabs, h('div', { class: 'sides' }, ['request', 'response'].map((side) => sideView(x, d, side))));
}
function sideView(x, d, side) {
  const m = d[side], off = S.sideTab === side ? '' : 'off';
  const first = side === 'request' ? `HTTP/${d.httpVersion}` : m?.status ? `${m.status} ${m.reason ?? ''}` : '';
  const box = h('section', { class: `side ${off}`, 'aria-label': side, tabindex: '0' }, h('h3', {}, side === 'request' ? 'Request' : 'Response', h('span', { class: 'muted cut' }, oneLine(first))));
  if (side === 'response' && x.error) box.append(troubleView(x));
  if (!m) { if (!x.error) box.append(h('div', { class: 'waiting' }, h('span', { class: 'pill live' }, h('span', { class: 'dot beat' }), 'The service has not answered yet'))); return box; }
  if (side === 'request' && x.target.includes('?')) box.append(querySection(x.target));
  box.append(headersSection(x, m, side));
  box.append(bodySection(x, m, side));
  return box;
}

// ---------------------------------------------------------------- what went wrong, and what helps
function troubleView(x) {
  const e = x.error, soft = e.code === 'visitor_left', b = S.bindings.find((k) => k.name === x.binding), addr = b?.target.address ?? 'the service', port = addr.split(':').pop();
  const help = {
    origin_refused: [`The request came through the tunnel, but nothing listens on ${addr}. The visitor got ${x.status}.`, [['Start the service, then replay this request.'], ['See what listens on this machine:', `ss -ltn 'sport = :${port}'`], ['Does it run on another port? Then expose that one:', `hoody-tunnel expose ${b?.port ?? port}=127.0.0.1:5173`]]],
    origin_timeout: [`${addr} took the request but did not answer in time. The visitor got ${x.status}.`, [['Is the service stopped in a debugger, or waiting for something itself?'], ['The limit is the kit’s; its operator can raise it:', 'hoody-tunnel serve --response-timeout 120s']]],
    origin_reset: [`${addr} closed the connection in the middle of its answer. The visitor saw the answer end early.`, [['The log of the service should say why: mostly it crashed or restarted.'], ['Replay to see whether it happens every time.']]],
    link_lost: ['The link to the kit broke while this was under way. What was on it is never repeated by itself.', [['Replay it, if it may safely happen twice.']]],
    visitor_left: ['The visitor closed the connection before the answer was complete. That is normal for a page that was left or a stream that was no longer wanted; your service did nothing wrong.', []],
  }[e.code] ?? [e.message, []];
  return h('div', { class: `trouble ${soft ? 'soft' : ''}` }, h('h4', {}, e.title), h('p', {}, help[0]), help[1].length > 0 && h('ul', {}, help[1].map(([t, c]) => h('li', {}, h('p', {}, t), c && cmd(c)))),
    e.message && h('code', { class: 'muted foreign' }, oneLine(e.message)), !soft && h('div', {}, button({ label: 'Replay', icon: 'replay', cls: 'primary', onClick: () => replay(x) })));
}

// ---------------------------------------------------------------- sections of a side
const section = (title, note, tools, ...rest) => h('div', { class: 'sec' }, h('header', {}, h('h4', {}, title, note && h('span', { class: 'muted' }, ` ${note}`)), tools), rest);
const SECRET_KEY = /passw(or)?d|secret|token|api.?key|^pin$|card.?number|cvc/i;
/** What a field's name says is secret waits behind a button. */
function maskedValue(v) {
  const dots = '••••••••', box = h('span', { class: 'mask' }, dots), b = button({ icon: 'eye', title: 'Reveal this value', cls: 'quiet tiny', 'aria-pressed': 'false', onClick: () => { const show = box.textContent === dots; box.textContent = show ? oneLine(v) : dots; b.setAttribute('aria-pressed', String(show)); } });
  return [box, ' ', b];
}
function kvTable(pairs, valueOf = (p) => (p[1] && SECRET_KEY.test(p[0]) ? maskedValue(p[1]) : longValue(p[1]))) {
  return h('dl', { class: 'kv' }, pairs.map((p) => [h('dt', { class: 'foreign' }, oneLine(p[0])), h('dd', { class: 'foreign' }, valueOf(p))]));
}
/** A value of any length takes three lines until asked for more. */
function longValue(v) {
  const t = oneLine(v);
  if (t.length < 180) return t;
  const box = h('span', { class: 'clip' }, t.slice(0, 400)), more = h('button', { type: 'button', class: 'linkbtn', 'aria-expanded': 'false', on: { click: () => { const all = box.classList.toggle('all'); box.textContent = all ? t : t.slice(0, 400); more.textContent = all ? 'Show less' : `Show all ${bytes(t.length)}`; more.setAttribute('aria-expanded', String(all)); } } }, `Show all ${bytes(t.length)}`);
  return [box, more];
}
const decodeForm = (t) => t.split('&').filter(Boolean).map((p) => p.split('=').map((q) => { try { return decodeURIComponent(q.replace(/\+/g, ' ')); } catch { return q; } })).map(([k, ...v]) => [k, v.join('=')]);
function querySection(target) { const p = decodeForm(target.slice(target.indexOf('?') + 1)); return section('Query', p.length, null, kvTable(p)); }

const FEW = 7;
function headersSection(x, m, side) {
  const key = `${x.id}/${side}`, secret = m.headers.filter((f) => f.secret).length, shown = S.revealed.has(key);
  const tools = secret > 0 && button({ label: shown ? 'Hide secrets' : `Reveal ${secret} secret${secret > 1 ? 's' : ''}`, icon: 'eye', cls: 'tiny', 'aria-pressed': String(shown), onClick: () => toggleSecrets(x, side) });
  const all = m.headers.map((f) => [f.name, f.value, f.secret && !shown]);
  const wrap = h('div'), value = (p) => (p[2] ? h('span', { class: 'mask' }, oneLine(p[1])) : longValue(p[1]));
  const draw = (n) => put(wrap, kvTable(all.slice(0, n), value), ...(all.length > n ? [h('button', { type: 'button', class: 'linkbtn', on: { click: () => draw(all.length) } }, `Show ${all.length - n} more`)] : []));
  draw(all.length > FEW + 2 ? FEW : all.length);
  return section('Headers', all.length, tools, wrap);
}
/** Secrets are masked by the driver; their values come only when they are asked for. */
async function toggleSecrets(x, side) {
  const key = `${x.id}/${side}`;
  if (S.revealed.delete(key)) S.detail = await source.exchange(x.id);
  else { S.revealed.add(key); S.detail[side].headers = await source.reveal(x.id, side); }
  drawBody();
}

function bodySection(x, m, side) {
  const data = S.bodies[side] ?? new Uint8Array(), fullType = m.headers.find((f) => f.name.toLowerCase() === 'content-type')?.value ?? '', type = fullType.toLowerCase();
  if (!m.body.size) return section('Body', '', null, h('p', { class: 'none' }, x.state === 'running' ? 'Nothing yet.' : 'Empty.'));
  const views = viewsFor(type, data), view = views.includes(S.view[side]) ? S.view[side] : views[0], out = h('div');
  const draw = (v) => { S.view[side] = v; put(out, ...notes(m, data, v), BODY_VIEWS[v](data, v === 'parts' ? fullType : type, x, m, side)); [...seg.children].forEach((b) => b.setAttribute('aria-pressed', String(b.dataset.v === v))); };
  const seg = h('div', { class: 'seg', role: 'group', 'aria-label': 'View' }, views.map((v) => h('button', { type: 'button', data: { v }, on: { click: () => draw(v) } }, VIEW_WORDS[v])));
  const box = section('Body', `${shortTypeOf(type)} · ${bytes(m.body.size)}`, [seg, button({ icon: 'copy', title: 'Copy body', cls: 'quiet tiny', onClick: () => copyText(text(data), 'Body') }), button({ icon: 'down', title: 'Download body', cls: 'quiet tiny', onClick: () => downloadBody(x, side) })], out);
  draw(view);
  return box;
}
const shortTypeOf = (t) => t.split(';')[0] || 'no type';
const VIEW_WORDS = { pretty: 'Pretty', form: 'Form', parts: 'Parts', image: 'Preview', source: 'Source', hex: 'Hex', raw: 'Raw' };
function viewsFor(type, data) {
  if (/^image\//.test(type)) return ['image', ...(/svg/.test(type) ? ['source'] : []), 'hex'];
  if (/form-urlencoded/.test(type)) return ['form', 'source', 'hex', 'raw'];
  if (/^multipart\//.test(type)) return ['parts', 'hex', 'raw'];
  if (/json/.test(type) || /[/+]xml|html/.test(type) || /^\s*[{[]/.test(text(data.subarray(0, 64)))) return ['pretty', 'source', 'hex', 'raw'];
  if (/^text\/|javascript|^$/.test(type) && !data.subarray(0, 512).includes(0)) return ['source', 'hex', 'raw'];
  return ['hex', 'raw'];
}
const text = (data) => new TextDecoder().decode(data);
const isUtf8 = (data) => { try { new TextDecoder('utf-8', { fatal: true }).decode(data); return true; } catch { return false; } };
const hint = (t) => h('div', { class: 'hint' }, t);
function notes(m, data, view) {
  const out = [];
  if (m.body.captured < m.body.size) out.push(hint(`Only the first ${bytes(m.body.captured)} of ${bytes(m.body.size)} were kept. The visitor got all of it.`));
  if (m.body.decodedFrom) out.push(h('p', { class: 'muted' }, `Shown decoded; it travelled as ${m.body.decodedFrom}, ${bytes(m.body.size)}.`));
  if (['pretty', 'source', 'raw'].includes(view) && data.length && !isUtf8(data)) out.push(hint('Some bytes are not UTF-8 and show as \ufffd. Hex shows them as they are.'));
  return out;
}
const TEXT_MAX = 200000;
const pre = (t, cls = 'code') => h('pre', { class: cls }, block(t.slice(0, TEXT_MAX)), t.length > TEXT_MAX && h('span', { class: 'cm' }, `\n… ${bytes(t.length - TEXT_MAX)} more; download the body to see all.`));
const BODY_VIEWS = {
  source: (d) => pre(text(d)),
  hex: hexView,
  raw: (d, type, x, m, side) => pre(`${side === 'request' ? `${x.method} ${x.target} HTTP/1.1` : `HTTP/1.1 ${m.status} ${m.reason ?? ''}`}\n${m.headers.map((f) => `${f.name}: ${f.value}`).join('\n')}\n\n${text(d)}`),
  form: (d) => kvTable(decodeForm(text(d))),
  parts: partsView, image: imageView, pretty: prettyView,
};
function prettyView(d, type) {
  const t = text(d);
  if (/[/+]xml/.test(type) && !/html/.test(type)) return h('pre', { class: 'code' }, markup(indentXml(t.slice(0, TEXT_MAX))));
  if (/html/.test(type)) return h('pre', { class: 'code' }, markup(t.slice(0, TEXT_MAX)));
  try { return h('div', { class: 'tree' }, jsonNode(JSON.parse(t), null, 0, true)); } catch (e) { return [hint(`Not valid JSON: ${e.message}`), pre(t)].reduce((f, n) => (f.append(n), f), document.createDocumentFragment()); }
}
const MANY = 100;
/** A JSON value as nested <details>: keyboard and screen readers know those. Children are built when they are opened. */
function jsonNode(v, key, depth, last) {
  const label = key === null ? [] : [h('span', { class: 'k' }, typeof key === 'number' ? String(key) : JSON.stringify(block(key))), h('span', { class: 'pn' }, ': ')], comma = last ? '' : ',';
  if (v && typeof v === 'string' && SECRET_KEY.test(key)) return h('div', { class: 'leaf' }, label, maskedValue(v), h('span', { class: 'pn' }, comma));
  if (v === null || typeof v !== 'object') return h('div', { class: 'leaf' }, label, h('span', { class: typeof v === 'string' ? 'sv' : 'nv' }, jsonLeaf(v)), h('span', { class: 'pn' }, comma));
  const list = Array.isArray(v), keys = Object.keys(v), [a, z] = list ? '[]' : '{}';
  if (!keys.length) return h('div', { class: 'leaf' }, label, h('span', { class: 'pn' }, a + z + comma));
  const inner = h('div'), d = h('details', { open: depth < 3 && keys.length <= MANY || depth === 0 }, h('summary', {}, label, h('span', { class: 'pn' }, a), h('span', { class: 'fold cm' }, ` ${keys.length} ${list ? 'items' : keys.length > 1 ? 'keys' : 'key'} ${z}`)), inner, h('div', { class: 'leaf pn', style: { border: '0', margin: '0', 'padding-left': '12px' } }, z + comma));
  let n = 0;
  const more = () => {
    const end = Math.min(keys.length, n + MANY);
    for (; n < end; n++) inner.append(jsonNode(v[keys[n]], list ? n : keys[n], depth + 1, n === keys.length - 1));
    if (n < keys.length) inner.append(h('button', { type: 'button', class: 'linkbtn', on: { click: (e) => { e.target.remove(); more(); } } }, `${keys.length - n} more`));
  };
  if (d.open) more(); else d.addEventListener('toggle', more, { once: true });
  return d;
}
const jsonLeaf = (v) => { const t = typeof v === 'string' ? JSON.stringify(v).replace(BIDI, markBidi) : String(v); return t.length > 4000 ? `${t.slice(0, 4000)}… (${bytes(t.length)})` : t; };
function indentXml(t) {
  let depth = 0;
  return t.replace(/>\s*</g, '>\n<').split('\n').map((line) => {
    if (/^<\//.test(line)) depth = Math.max(0, depth - 1);
    const out = '  '.repeat(depth) + line.trim();
    if (/^<[^!?/][^>]*[^/]>$/.test(line.trim()) && !/<\//.test(line)) depth++;
    return out;
  }).join('\n');
}
/** Colours the tags of XML or HTML; all of it stays text. */
function markup(t) {
  return block(t).split(/(<!--[\s\S]*?-->|<[^>]*>)/).map((p) => (p.startsWith('<!--') ? h('span', { class: 'cm' }, p) : p.startsWith('<') ? h('span', { class: 'k' }, p) : p));
}
const HEX_MAX = 32768;
/** Sixteen bytes a line where they fit, else eight. */
function hexView(d) {
  const room = $('#detail').clientWidth / ($('#detail').clientWidth > 760 && S.tab === 'exchange' ? 2 : 1), per = room > 600 ? 16 : 8;
  let out = '';
  for (let o = 0; o < Math.min(d.length, HEX_MAX); o += per) {
    const part = [...d.subarray(o, o + per)], hex = part.map((b) => b.toString(16).padStart(2, '0')), half = (k) => hex.slice(k, k + 8).join(' ').padEnd(23);
    out += `${o.toString(16).padStart(8, '0')}  ${half(0)}  ${per > 8 ? `${half(8)}  ` : ''}${part.map((b) => (b > 31 && b < 127 ? String.fromCharCode(b) : '·')).join('')}\n`;
  }
  return h('pre', { class: 'hex' }, out, d.length > HEX_MAX && `… ${bytes(d.length - HEX_MAX)} more`);
}
function imageView(d, type) {
  const url = URL.createObjectURL(new Blob([d], { type: type.split(';')[0] })), note = h('span', { class: 'muted' });
  const img = h('img', { alt: 'Preview of the body', src: url, on: { load: () => { note.textContent = `${img.naturalWidth} × ${img.naturalHeight} px`; URL.revokeObjectURL(url); }, error: () => { note.textContent = 'This is not an image the browser can show. See Hex.'; img.remove(); } } });
  return h('div', { class: 'pic' }, img, note);
}
function partsView(d, type) {
  const parts = splitMultipart(d, /boundary="?([^";]+)/i.exec(type)?.[1]);
  if (!parts.length) return hint('No part found: the boundary does not fit the body.');
  return h('div', {}, parts.map((p) => {
    const name = /name="([^"]*)"/.exec(p.head)?.[1] ?? '(no name)', file = /filename="([^"]*)"/.exec(p.head)?.[1], t = /content-type: *(.*)/i.exec(p.head)?.[1] ?? '';
    return h('div', { class: 'part foreign' }, h('b', {}, oneLine(name)), h('span', { class: 'muted' }, ` ${file ? `${oneLine(file)} · ` : ''}${t ? `${oneLine(t)} · ` : ''}${bytes(p.data.length)} `), file && button({ icon: 'down', title: `Download ${oneLine(file)}`, cls: 'quiet tiny', onClick: () => saveFile(safeName(file), p.data) }), /^image\//.test(t) ? imageView(p.data, t) : file ? hexView(p.data.subarray(0, 64)) : pre(text(p.data)));
  }));
}
/** Latin-1 makes one character of each byte, so string searches give byte offsets. */
function splitMultipart(d, boundary) {
  if (!boundary) return [];
  const t = new TextDecoder('latin1').decode(d), out = [];
  let at = t.indexOf(`--${boundary}`);
  while (at >= 0) {
    const start = t.indexOf('\r\n', at) + 2, next = t.indexOf(`\r\n--${boundary}`, start), gap = t.indexOf('\r\n\r\n', start);
    if (next < 0 || gap < 0 || gap > next || start < 2) break;
    out.push({ head: text(d.subarray(start, gap)), data: d.subarray(gap + 4, next) });
    at = next + 2;
  }
  return out;
}

// ================================================================ frames of a WebSocket, events of a stream
const F = { text: '', dir: 'all', follow: true };
function streamView(x) {
  const box = h('div', { class: 'frames', tabindex: '0', 'aria-label': 'Messages' }), sse = x.kind === 'sse', note = h('span', { class: 'muted num' });
  const draw = () => {
    const all = source.frames(x.id), low = F.text.toLowerCase(), few = all.filter((f) => (F.dir === 'all' || f.dir === F.dir) && (!low || f.text?.toLowerCase().includes(low) || f.event?.includes(low)));
    const tail = few.slice(-500);
    put(box, ...(few.length > 500 ? [h('p', { class: 'sbar muted' }, `${few.length - 500} earlier messages are not drawn; narrow the filter to see them.`)] : []), ...tail.map((f) => frameRow(f, sse)), ...(tail.length ? [] : [h('div', { class: 'waiting' }, all.length ? 'No message matches.' : 'No message yet.')]));
    note.textContent = `${few.length.toLocaleString('en')} of ${all.length.toLocaleString('en')}`;
    if (F.follow) box.scrollTop = box.scrollHeight;
  };
  box.addEventListener('scroll', () => { F.follow = box.scrollTop + box.clientHeight > box.scrollHeight - 40; });
  streamAdd = (f) => { if (!matches(f)) return; box.append(frameRow(f, sse)); if (box.childElementCount > 600) box.firstElementChild.remove(); if (F.follow) box.scrollTop = box.scrollHeight; };
  const matches = (f) => (F.dir === 'all' || f.dir === F.dir) && (!F.text || f.text?.toLowerCase().includes(F.text.toLowerCase()));
  const dirs = h('div', { class: 'seg', role: 'group', 'aria-label': 'Direction' }, [['all', 'All'], ['up', '↑ From visitor'], ['down', '↓ From service']].map(([d, w]) => h('button', { type: 'button', 'aria-pressed': String(F.dir === d), on: { click: (e) => { F.dir = d; [...dirs.children].forEach((b) => b.setAttribute('aria-pressed', String(b === e.target))); draw(); } } }, w)));
  queueMicrotask(draw);
  keepWatching(x.id, draw);
  requestAnimationFrame(() => { if (F.follow) box.scrollTop = box.scrollHeight; });
  return h('div', { class: 'stream' }, x.error && troubleView(x), h('div', { class: 'sbar' }, h('input', { class: 'field', type: 'search', placeholder: sse ? 'Filter events' : 'Filter frames', 'aria-label': 'Filter messages', value: F.text, on: { input: (e) => { F.text = e.target.value; draw(); } } }), !sse && dirs, note, h('span', { class: 'grow' }), x.state === 'running' ? h('span', { class: 'pill live' }, h('span', { class: 'dot beat' }), 'still open') : h('span', { class: 'pill' }, 'closed')), box);
}
let streamAdd = null, watchRun = 0;
/** The driver tells of frames for a minute after somebody has asked for them, so they are asked for again while they are looked at. */
async function keepWatching(id, draw) {
  for (const run = ++watchRun; run === watchRun && S.sel === id && S.tab === 'stream';) {
    try { if (await source.watch(id)) draw(); } catch { return; }
    if (S.byId.get(id)?.state !== 'running') return;
    await new Promise((r) => setTimeout(r, 40000));
  }
}
function frameRow(f, sse) {
  const ctl = !sse && !['text', 'binary'].includes(f.opcode);
  const pay = f.text ?? `${f.size} bytes of binary`, short = oneLine(pay.length > 400 ? `${pay.slice(0, 400)}…` : pay);
  const cell = h('div', { class: 'pay foreign' }), btn = h('button', { type: 'button', class: 'short', 'aria-expanded': 'false', on: { click: () => {
    const open = btn.nextSibling; btn.setAttribute('aria-expanded', String(!open));
    if (open) open.remove(); else cell.append(payloadView(f));
  } } }, short);
  if (pay) cell.append(btn);
  return h('div', { class: `frame ${f.dir} ${ctl ? 'ctl' : ''}` }, h('span', { class: 'num t' }, clockMs(f.at)), h('span', { class: 'dir', role: 'img', 'aria-label': f.dir === 'up' ? 'from the visitor' : 'from the service' }, f.dir === 'up' ? '↑' : '↓'), h('span', { class: 'op' }, sse ? oneLine(f.event ?? 'message') : f.opcode), h('span', { class: 'num r sz' }, bytes(f.size)), cell);
}
function payloadView(f) {
  if (f.text === null) return hexView(Uint8Array.from(atob(f.base64), (c) => c.charCodeAt(0)));
  return /^\s*[{[]/.test(f.text) ? prettyView(new TextEncoder().encode(f.text), 'json') : pre(f.text);
}

// ================================================================ compare
/** Lines that differ, by the longest common subsequence; too much for that is compared as one block. */
function diffLines(a, b) {
  if (a.length * b.length > 4e6) return [...a.map((t) => ['del', t]), ...b.map((t) => ['add', t])];
  const w = b.length + 1, L = new Uint32Array((a.length + 1) * w);
  for (let i = a.length - 1; i >= 0; i--) for (let j = b.length - 1; j >= 0; j--) L[i * w + j] = a[i] === b[j] ? L[(i + 1) * w + j + 1] + 1 : Math.max(L[(i + 1) * w + j], L[i * w + j + 1]);
  const out = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { out.push(['same', a[i]]); i++; j++; } else if (j >= b.length || i < a.length && L[(i + 1) * w + j] >= L[i * w + j + 1]) out.push(['del', a[i++]]); else out.push(['add', b[j++]]);
  }
  return out;
}
/** Three lines around each change stay; the rest becomes one line that says how many. */
function foldSame(d, keep = 3) {
  const near = d.map((_, i) => d.slice(Math.max(0, i - keep), i + keep + 1).some((x) => x[0] !== 'same')), out = [];
  for (let i = 0; i < d.length; i++) { if (near[i]) { out.push(d[i]); continue; } let n = 0; while (i < d.length && !near[i]) { n++; i++; } i--; out.push(['skip', `${n} unchanged line${n > 1 ? 's' : ''}`]); }
  return out;
}
const diffTable = (a, b) => {
  const d = diffLines(a, b);
  if (d.every((x) => x[0] === 'same')) return h('p', { class: 'none' }, 'The same.');
  return h('table', {}, h('tbody', {}, foldSame(d).map(([k, t]) => h('tr', { class: k }, h('td', { 'aria-label': { add: 'added', del: 'removed' }[k] ?? '' }, { add: '+', del: '−', skip: '⋯' }[k] ?? ''), h('td', { class: 'foreign' }, block(t))))));
};
const bodyLines = (d) => { const t = text(d); try { return JSON.stringify(JSON.parse(t), null, 2).split('\n'); } catch { return t.split('\n'); } };
function compareView(x) {
  const box = h('div', { class: 'diff' }, h('p', { class: 'muted' }, 'Comparing…'));
  Promise.all([loadSide(x.replayOf), loadSide(x.id)]).then(([a, b]) => put(box, ...diffParts(a, b))).catch((e) => put(box, hint(e.message)));
  return box;
}
async function loadSide(id) { const d = await source.exchange(id); return { x: S.byId.get(id) ?? d, d, body: d.response ? await source.body(id, 'response') : new Uint8Array() }; }
function diffParts(a, b) {
  const card = (o, word) => { const [st, cls] = statusOf(o.x); return h('div', {}, h('span', { class: 'muted' }, `${word} · ${clockTime(o.x.startedAt)}`), h('span', { class: 'num' }, h('span', { class: `st ${cls}` }, st), ` · ${duration(o.x.durationMs)} · ${bytes(o.x.responseBytes)}`)); };
  const head = (o) => (o.d.response?.headers ?? []).map((f) => `${f.name}: ${f.value}`).sort();
  return [h('div', { class: 'cmp' }, card(a, 'Original'), card(b, b.x.edited ? 'Edited' : 'Replay')), h('div', {}, h('h3', {}, 'Body'), diffTable(bodyLines(a.body), bodyLines(b.body))), h('div', {}, h('h3', {}, 'Headers'), diffTable(head(a), head(b)))];
}

// ================================================================ actions
async function replay(x) {
  try { const y = await source.replay(x.id); upsert(y); toast('Replayed'); S.tab = 'exchange'; select(y.id); } catch (e) { toast(`Not replayed: ${e.message}`); }
}
/** The editor stays open after sending, with the answer beside it, so that one can try again and again. */
async function openEditor(x) {
  const d = await source.exchange(x.id), body = d.request.body.size ? text(await source.body(x.id, 'request')) : '';
  const methods = [...new Set([x.method, 'GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS'])];
  const method = h('select', { class: 'field', 'aria-label': 'Method' }, methods.map((m) => h('option', {}, m))), target = h('input', { class: 'field', 'aria-label': 'Target', value: x.target, spellcheck: 'false' });
  const rows = h('div'), addRow = (f = { name: '', value: '' }) => rows.append(headerRow(f)), area = h('textarea', { class: 'field', id: 'edBody', spellcheck: 'false', value: body }), state = h('span', { class: 'muted' });
  d.request.headers.filter((f) => !/^(content-length|host|connection)$/i.test(f.name)).forEach(addRow);
  const check = () => { const t = area.value.trim(); if (!/^[{[]/.test(t)) { state.textContent = `${bytes(new TextEncoder().encode(area.value).length)}`; state.className = 'muted'; return; } try { JSON.parse(t); state.textContent = 'valid JSON'; state.className = 'st s2'; } catch { state.textContent = 'JSON has an error'; state.className = 'st s5'; } };
  area.addEventListener('input', check); check();
  const right = h('div', { class: 'edcol', 'aria-live': 'polite' }, h('div', { class: 'waiting' }, h('p', {}, 'The answer appears here.'), h('p', {}, h('kbd', {}, 'Ctrl'), ' ', h('kbd', {}, 'Enter'), ' sends'))); 
  const send = async () => {
    put(right, h('div', { class: 'waiting' }, h('span', { class: 'pill live' }, h('span', { class: 'dot beat' }), 'Sending')));
    const headers = [...rows.children].filter((r) => r.querySelector('[type=checkbox]').checked && r.querySelector('.n').value).map((r) => ({ name: r.querySelector('.n').value, value: r.querySelector('.v').value, keep: r.dataset.secret === '1' }));
    const edit = { method: method.value, target: target.value, headers, ...(area.value !== body && { body: area.value }) }; // a body that was not touched goes as it was, bytes that are no text included
    try { const y = await source.replay(x.id, edit); upsert(y); await settled(y.id); await showAnswer(right, y); } catch (e) { put(right, h('div', { class: 'waiting' }, hint(e.message))); }
  };
  const dlg = openDialog({ title: 'Edit & replay', cls: 'editor', focus: target, body: [h('div', { class: 'edcol' }, h('div', { class: 'edline' }, method, target), h('div', {}, h('label', { class: 't' }, 'Headers', button({ label: 'Add', icon: 'add', cls: 'tiny', onClick: () => addRow() })), rows), h('div', { class: 'bodybox' }, h('label', { class: 't', for: 'edBody' }, h('span', {}, 'Body ', state), button({ label: 'Format JSON', cls: 'tiny', onClick: () => { try { area.value = JSON.stringify(JSON.parse(area.value), null, 2); check(); } catch (e) { toast(e.message); } } })), area)), right],
    foot: [h('span', { class: 'muted grow' }, `Goes to ${S.bindings.find((b) => b.name === x.binding)?.target.address ?? 'the service'}, not through the public URL.`), button({ label: 'Close', onClick: () => dlg.close() }), button({ label: 'Send', icon: 'play', cls: 'primary', onClick: send })] });
  dlg.addEventListener('keydown', (e) => { if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) send(); });
  return { send, area };
}
/** Waits until the exchange has ended; one that goes on is shown as far as it is. */
async function settled(id) {
  for (let n = 0; n < 300; n++) {
    const x = S.byId.get(id);
    if (!x || x.state !== 'running' || (n > 20 && x.kind !== 'http')) return;
    await new Promise((r) => setTimeout(r, 100));
  }
}
/** A masked secret is sent with its real value, which the driver knows; once edited it is sent as it stands. */
function headerRow(f) {
  const row = h('div', { class: 'hrow', data: { secret: f.secret ? '1' : '' } }, h('input', { type: 'checkbox', checked: true, 'aria-label': 'Send this header' }), h('input', { class: 'field n', 'aria-label': 'Name', value: f.name, spellcheck: 'false' }), h('input', { class: 'field v', 'aria-label': 'Value', value: f.value, spellcheck: 'false', title: f.secret ? 'Masked; sent with its real value unless you change it' : null, on: { input: () => { row.dataset.secret = ''; } } }), button({ icon: 'close', title: 'Remove header', cls: 'quiet tiny', onClick: () => row.remove() }));
  return row;
}
async function showAnswer(box, y) {
  const b = await loadSide(y.id), a = await loadSide(y.replayOf), [st, cls] = statusOf(b.x);
  let mode = 'diff';
  const out = h('div', { class: 'sec' }), draw = () => put(out, mode === 'diff' ? h('div', { class: 'diff', style: { padding: '0', background: 'none' } }, diffParts(a, b)) : prettyView(b.body, b.x.type ?? ''));
  const seg = h('div', { class: 'seg' }, [['diff', 'Difference'], ['body', 'Answer']].map(([m, w]) => h('button', { type: 'button', 'aria-pressed': String(m === mode), on: { click: (e) => { mode = m; [...seg.children].forEach((k) => k.setAttribute('aria-pressed', String(k === e.target))); draw(); } } }, w)));
  put(box, h('div', { class: 'sbar' }, h('span', { class: `pill ${pillOf(cls)}` }, `${st} ${REASON[b.x.status] ?? ''}`), h('span', { class: 'muted num' }, duration(b.x.durationMs)), h('span', { class: 'grow' }), seg, button({ label: 'Open', icon: 'link', cls: 'tiny', onClick: (e) => { e.target.closest('dialog').close(); select(y.id); } })), out);
  draw();
  if (innerWidth <= 900) box.scrollIntoView({ block: 'start' });
}
// ---------------------------------------------------------------- copies
/** A word for a shell: bash and zsh read '…' as it stands, and $'…' with escapes for what cannot be seen. */
const shellWord = (t) => (/[\x00-\x1f\x7f-\x9f\u2028\u2029]/.test(t) || BIDI.test(t) ? `$'${[...new TextEncoder().encode(t)].map((b) => (b === 39 || b === 92 ? `\\${String.fromCharCode(b)}` : b > 31 && b < 127 ? String.fromCharCode(b) : `\\x${b.toString(16).padStart(2, '0')}`)).join('')}'` : `'${t.replace(/'/g, "'\\''")}'`);
const toBase64 = (data) => { let t = ''; for (let i = 0; i < data.length; i += 8192) t += String.fromCharCode(...data.subarray(i, i + 8192)); return btoa(t); };
const DOTS = '••••';
/** The same text with the values of secret members of JSON, and of secret fields of a form or a query, masked. */
const maskJson = (t) => t.replace(/("((?:[^"\\]|\\.)*)"\s*:\s*)"(?:[^"\\]|\\.)+"/g, (all, head, key) => (SECRET_KEY.test(key) ? `${head}"${DOTS}"` : all));
const maskForm = (t) => t.replace(/(^|[?&])([^=&?]+)=([^&]+)/g, (all, mark, key) => (SECRET_KEY.test(key) ? `${mark}${key}=${DOTS}` : all));
function maskBody(t, type) { return /form-urlencoded/i.test(type) ? maskForm(t) : maskJson(t); }

/** What is copied: the target, the fields, the body as it travelled. Without `secrets` all of it is masked. */
async function copied(x, secrets) {
  const d = await source.exchange(x.id), fields = secrets ? await source.reveal(x.id, 'request') : d.request.headers, type = fields.find((f) => /^content-type$/i.test(f.name))?.value ?? '';
  const whole = d.request.body.captured === d.request.body.size;
  let data = d.request.body.size ? await source.body(x.id, 'request', true) : new Uint8Array(), target = x.target, masked = !secrets && fields.some((f) => f.secret);
  if (!secrets) {
    const t = maskForm(target), b = isUtf8(data) ? maskBody(text(data), type) : null;
    if (t !== target) { target = t; masked = true; }
    if (b !== null && b !== text(data)) { data = new TextEncoder().encode(b); masked = true; }
  }
  const at = S.bindings.find((k) => k.name === x.binding) ?? S.bindings.find((k) => k.mode === 'expose'), host = fields.find((f) => /^host$/i.test(f.name))?.value ?? 'localhost';
  const base = at && /^[\w.:[\]-]+:\d+$/.test(at.target.address) ? `http://${at.target.address}` : isLink(at?.url) ? at.url : `http://${host}`;
  return { target, fields, data, masked, whole, base };
}
/**
 * Gives the service the same bytes: the fields in their order, and none of curl's own. What is no text, or what curl or a shell
 * would read as something else, goes through a pipe.
 */
function asCurl(x, c) {
  const has = (n) => c.fields.some((f) => f.name.toLowerCase() === n), words = ['curl -i --http1.1'], plain = /^[\w.~:/?@!$&'()*+,;=%-]+$/.test(c.target) && !/\/\./.test(c.target);
  const implied = x.method === (c.data.length ? 'POST' : 'GET');
  if (x.method === 'HEAD') words.push('--head'); else if (!implied) words.push(`-X ${shellWord(x.method)}`);
  if (!plain) words.push(`--request-target ${shellWord(c.target)}`);
  words.push(shellWord(plain ? c.base + c.target : `${c.base}/`));
  for (const f of c.fields) {
    if (/^(connection|keep-alive|proxy-connection|te|upgrade)$/i.test(f.name)) continue; // about one connection
    if (/^content-length$/i.test(f.name)) { if (c.data.length || +f.value === 0) words.push(`-H ${shellWord(`${f.name}: ${c.data.length}`)}`); continue; }
    words.push(`-H ${shellWord(f.value === '' ? `${f.name};` : `${f.name}: ${f.value}`)}`);
  }
  for (const n of ['accept', 'user-agent', 'expect']) if (!has(n)) words.push(`-H '${n}:'`);
  if (!c.data.length) return words.join(' \\\n  ');
  if (!has('content-type')) words.push("-H 'content-type:'");
  // 64 is @, which names a file; 0xef may begin a byte order mark, which a decoder takes away.
  const t = isUtf8(c.data) && c.data.length < 60000 && !c.data.includes(0) && ![64, 0xef].includes(c.data[0]) ? text(c.data) : null;
  if (t !== null) return [...words, `--data-binary ${shellWord(t)}`].join(' \\\n  ');
  return `base64 -d <<'END' | ${[...words, '--data-binary @-'].join(' \\\n  ')}\n${toBase64(c.data).replace(/.{76}/g, '$&\n').trimEnd()}\nEND`;
}
/** Fields that a browser's fetch sets itself are left out: node and browsers refuse or replace them. */
function asFetch(x, c) {
  const fields = c.fields.filter((f) => !/^(host|content-length|connection|keep-alive|transfer-encoding|te|trailer|upgrade|expect|proxy-connection|accept-encoding)$/i.test(f.name)).map((f) => [f.name, f.value]);
  const t = isUtf8(c.data) && c.data[0] !== 0xef ? JSON.stringify(text(c.data)) : `Uint8Array.from(atob(${JSON.stringify(toBase64(c.data))}), (c) => c.charCodeAt(0))`;
  return `await fetch(${JSON.stringify(c.base + c.target)}, {\n  method: ${JSON.stringify(x.method)},\n  headers: ${JSON.stringify(fields, null, 2).replace(/\n/g, '\n  ')},${c.data.length ? `\n  body: ${t},` : ''}\n  redirect: 'manual',\n})`;
}
/** Masked values are left masked: a command in a chat should not carry a session away by accident. */
async function copyAs(x, form, secrets = S.revealed.has(`${x.id}/request`)) {
  const c = await copied(x, secrets);
  await copyText(form === 'curl' ? asCurl(x, c) : asFetch(x, c), form === 'curl' ? 'curl command' : 'fetch call');
  if (!c.whole) toast('The body in it is cut: it was not captured whole.');
  if (c.masked) toast('Secrets in it are masked.', button({ label: 'Copy with secrets', cls: 'tiny', onClick: () => copyAs(x, form, true) }));
}
async function downloadBody(x, side) {
  const data = await source.body(x.id, side), ext = { json: 'json', html: 'html', xml: 'xml', png: 'png', jpeg: 'jpg', 'svg+xml': 'svg', csv: 'csv', plain: 'txt' }[(x.type ?? '').split(/[/;]/)[1]] ?? 'bin';
  saveFile(safeName(`${x.target.split('?')[0].split('/').pop() || 'body'}.${ext}`), data);
}
function exportHar() {
  const what = S.filtered ? `the ${S.shown.length.toLocaleString('en')} that match the filter` : `all ${S.all.length.toLocaleString('en')}`, secrets = h('input', { type: 'checkbox' });
  const dlg = openDialog({ title: 'Export HAR', body: h('div', { class: 'stack' }, h('p', {}, `A HAR 1.2 file with ${what}. Browsers, Charles, Proxyman and Insomnia read it.`), h('label', { class: 'check' }, secrets, h('span', {}, 'Include secrets ', h('span', { class: 'muted' }, '(Authorization, cookies, keys). Leave this off for a file that goes into a ticket.')))),
    foot: [button({ label: 'Cancel', onClick: () => dlg.close() }), button({ label: 'Export', icon: 'out', cls: 'primary', onClick: async () => { dlg.close(); try { saveFile('hoody-tunnel.har', await source.har(S.filtered ? S.shown.map((x) => x.id) : null, secrets.checked), 'application/json'); toast('Exported'); } catch (e) { toast(`Not exported: ${e.message}`); } } })] });
}
function importHar() {
  const pick = h('input', { type: 'file', accept: '.har,application/json', on: { change: async () => { if (pick.files[0].size > 64 * 1024 * 1024) { toast('Not imported: the file has more than 64 MB'); return; } try { const n = await source.importHar(pick.files[0]); toast(`${n} request${n === 1 ? '' : 's'} imported`); } catch (e) { toast(`Not imported: ${e.message}`); } } } });
  pick.click();
  return pick;
}
function clearAll() {
  const dlg = openDialog({ title: 'Clear the list', body: h('p', {}, `All ${S.all.length.toLocaleString('en')} requests are forgotten, here and in the driver. What is still running goes on.`),
    foot: [button({ label: 'Cancel', onClick: () => dlg.close() }), button({ label: 'Clear', cls: 'danger', onClick: () => { dlg.close(); source.clear(); } })] });
}
function forgetAll() { S.all = []; S.shown = []; S.byId.clear(); S.fresh = 0; if (S.sel) closeDetail(); refresh(); }
async function togglePause() { S.paused = !S.paused; if (!S.paused && S.held.size) { S.held.clear(); await source.resync(); } drawActs(); refresh(); }
function showHelp() {
  const rows = [['j', 'Next (older)'], ['k', 'Previous (newer)'], ['g', 'Newest'], ['Enter', 'Open, go into the detail'], ['Esc', 'Close, or leave the filter'], ['/', 'Filter'], ['x', 'Clear the filter'], ['p', 'Pause'], ['r', 'Replay'], ['e', 'Edit & replay'], ['c', 'Copy as curl'], ['d', 'Download body'], ['s', 'Reveal or hide secrets'], ['[ ]', 'Request, response'], ['v', 'Next view of the body'], ['?', 'This help']];
  openDialog({ title: 'Keyboard', body: h('div', { class: 'helpgrid' }, rows.map(([k, w]) => [h('span', {}, k.split(' ').map((q) => h('kbd', {}, q))), h('span', {}, w)])) });
}

// ================================================================ controls
function drawChips() {
  put($('#chips'), ...CHIPS.map(([id, word, , cls]) => h('button', { type: 'button', class: `btn ${cls ?? ''}`, 'aria-pressed': String(S.chips.has(id)), on: { click: () => { if (!S.chips.delete(id)) S.chips.add(id); drawChips(); applyFilter(); } } }, word)));
}
const wideOnly = (word) => h('span', { class: 'wide' }, word);
function drawActs() {
  put($('#acts'), button({ icon: S.paused ? 'play' : 'pause', title: S.paused ? 'Go on (p)' : 'Pause (p)', 'aria-pressed': String(S.paused), onClick: togglePause }), button({ icon: 'clear', title: 'Clear', onClick: clearAll }), button({ icon: 'in', label: wideOnly('Import'), title: 'Import HAR', 'aria-label': 'Import HAR', onClick: importHar }), button({ icon: 'out', label: wideOnly('Export'), title: 'Export HAR', 'aria-label': 'Export HAR', onClick: exportHar }));
}
function drawFields() {
  put($('#fields'), h('dl', {}, FIELDS.map(([f, ex]) => [h('dt', {}, h('button', { type: 'button', tabindex: '-1', on: { mousedown: (e) => { e.preventDefault(); const b = $('#filter'); b.value = `${b.value.trimEnd()} ${f}:`.trimStart(); b.focus(); } } }, `${f}:`)), h('dd', {}, ex)])), h('p', {}, 'Terms are joined with and; a minus in front excludes: ', h('code', {}, '-path:/health')));
}
function move(delta) {
  const n = S.shown.length;
  if (!n) return;
  const at = S.sel ? list.indexOf(S.byId.get(S.sel)) : -1, i = Math.min(n - 1, Math.max(0, at < 0 ? 0 : at + delta));
  list.reveal(i);
  select(list.at(i).id);
}
function nextView() { const seg = $('#dbody .side:not(.off) .seg') ?? $('#dbody .seg'); if (!seg) return; const b = [...seg.children], i = b.findIndex((k) => k.getAttribute('aria-pressed') === 'true'); b[(i + 1) % b.length].click(); }
const KEYS = {
  j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1), g: () => { $('#list').scrollTop = 0; if (S.shown.length) select(list.at(0).id); },
  Enter: () => (S.sel ? $('#detail').focus() : move(0)), Escape: () => S.sel && closeDetail(), '/': () => $('#filter').focus(), '?': showHelp, p: togglePause, x: clearFilter,
  PageDown: () => move(Math.floor(list.viewH / list.rowH) - 1), PageUp: () => move(1 - Math.floor(list.viewH / list.rowH)), Home: () => KEYS.g(), End: () => move(1e9),
  '[': () => { S.sideTab = 'request'; drawBody(); }, ']': () => { S.sideTab = 'response'; drawBody(); }, v: nextView,
};
const ON_SELECTED = { r: (x) => x.kind !== 'websocket' && replay(x), e: (x) => x.kind !== 'websocket' && openEditor(x), c: (x) => copyAs(x, 'curl'), d: (x) => x.responseBytes && downloadBody(x, 'response'), s: async (x) => { for (const side of ['request', 'response']) if (S.detail?.[side]?.headers.some((f) => f.secret)) await toggleSecrets(x, side); } };
const SCROLL_KEYS = /^(Arrow|Page|Home|End)/;
function onKey(e) {
  if (e.ctrlKey || e.metaKey || e.altKey || document.querySelector('dialog[open]')) return;
  const typing = e.target.matches('input, textarea, select');
  if (typing) { if (e.key === 'Escape') { $('#list').focus(); e.preventDefault(); } return; }
  if (SCROLL_KEYS.test(e.key) && e.target !== $('#list') && e.target !== document.body) return; // they scroll what has the focus
  if (e.key === 'Enter' && e.target.matches('button, a, summary')) return;
  const x = S.byId.get(S.sel), f = KEYS[e.key] ?? (x && ON_SELECTED[e.key]);
  if (f) { e.preventDefault(); f(x); }
}
function initSplit() {
  const bar = $('#split'), set = (px) => { const w = Math.max(280, Math.min(innerWidth - 360, px)); $('#main').style.setProperty('--listw', `${w}px`); bar.setAttribute('aria-valuenow', Math.round(w / innerWidth * 100)); list.measure(); refresh(); };
  bar.addEventListener('pointerdown', (e) => { bar.setPointerCapture(e.pointerId); bar.onpointermove = (m) => set(m.clientX); });
  bar.addEventListener('pointerup', () => { bar.onpointermove = null; });
  bar.addEventListener('keydown', (e) => { const d = { ArrowLeft: -24, ArrowRight: 24 }[e.key]; if (d) { e.preventDefault(); e.stopPropagation(); set($('#listPane').offsetWidth + d); } });
}
function init() {
  initTheme($('#theme'));
  $('#help').append(icon('help')); $('#help').addEventListener('click', showHelp);
  drawChips(); drawActs(); drawFields(); initSplit(); drawLink(); list.measure();
  const v = $('#list');
  v.addEventListener('scroll', () => { if (v.scrollTop < 4) S.fresh = 0; refresh(); }, { passive: true });
  v.addEventListener('click', (e) => { const r = e.target.closest('.row'); if (r) { const row = list.rows.find((k) => k.el === r); select(row.x.id); } });
  $('#fresh').addEventListener('click', () => { v.scrollTop = 0; S.fresh = 0; refresh(); });
  let timer;
  const fields = () => { const t = $('#filter').value; $('#fields').hidden = t !== '' && !t.endsWith(' '); };
  $('#filter').addEventListener('input', () => { fields(); clearTimeout(timer); timer = setTimeout(applyFilter, 120); });
  $('#filter').addEventListener('focus', fields);
  $('#filter').addEventListener('blur', () => { $('#fields').hidden = true; });
  document.addEventListener('keydown', onKey);
  addEventListener('resize', () => { list.measure(); drawBindings(); refresh(); });
  setInterval(() => { if (S.all.some((x) => x.state === 'running')) refresh(); }, 1000);
  source = apiSource();
  source.start({
    snapshot(s) { const sel = s.exchanges.some((x) => x.id === S.sel) ? S.sel : null; if (!sel && S.sel) closeDetail(); S.held.clear(); S.all = []; S.byId.clear(); S.bindings = s.bindings; S.link = s.link; S.traffic = s.traffic; S.rates = s.rates; for (const x of s.exchanges) { x.v = 0; S.all.push(x); S.byId.set(x.id, x); } S.shown = S.all.filter(S.test); list.rows.forEach((r) => { r.x = null; }); if (sel) detailChanged(S.byId.get(sel)); drawLink(); drawBindings(); drawTraffic(); refresh(); },
    exchange: upsert, removed: removeOldest, cleared: forgetAll,
    link(l) { S.link = l; drawLink(); }, bindings(b) { S.bindings = b; drawBindings(); refresh(); },
    traffic(t) { S.traffic = [...S.traffic.slice(-59), t.in + t.out]; S.rates = t; drawTraffic(); },
    frame(id, f) { if (S.sel === id && S.tab === 'stream') streamAdd?.(f); },
  });
}

// ================================================================ the driver as the source; api.md describes each call
function apiSource() {
  const base = '/api/v1/inspector', token = location.hash.slice(1) || sessionGet('key') || '';
  if (location.hash) { sessionSet('key', token); history.replaceState(null, '', location.pathname + location.search); }
  const get = async (p) => (await call(token, 'GET', base + p)).json(), post = async (p, b) => (await call(token, 'POST', base + p, b)).json(), frames = new Map();
  let on;
  const resync = async () => on.snapshot(await get('/state'));
  /** Adds the frames that are new; true when there were some. */
  const take = (id, got) => { const l = frames.get(id) ?? frames.set(id, []).get(id), last = l.at(-1)?.seq ?? 0, more = got.filter((f) => f.seq > last); l.push(...more); return more.length > 0; };
  const watch = async (id) => take(id, (await get(`/exchanges/${id}/frames?after=${frames.get(id)?.at(-1)?.seq ?? 0}`)).frames);
  addEventListener('hashchange', () => { if (location.hash.length > 1) location.reload(); }); // the address of another driver
  return {
    start(handlers) {
      on = handlers;
      followFeed(token, `${base}/feed`, (event, d) => {
        if (event === 'frame') { if (frames.has(d.exchangeId) && take(d.exchangeId, [d])) on.frame(d.exchangeId, d); } else if (event === 'removed') on.removed(d.ids); else on[event]?.(d);
      }, (up, status) => { if (!up) on.link({ state: status === 401 ? 'locked' : 'gone' }); });
    },
    resync, watch, exchange: async (id) => { const d = await get(`/exchanges/${id}`); if (d.frames !== undefined) await watch(id); return d; },
    body: async (id, side, encoded) => new Uint8Array(await (await call(token, 'GET', `${base}/exchanges/${id}/${side}/body${encoded ? '?encoded=1' : ''}`)).arrayBuffer()),
    reveal: async (id, side) => (await post(`/exchanges/${id}/${side}/reveal`, {})).headers,
    find: (field, value) => get(`/exchanges?fields=id&${field}=${encodeURIComponent(value)}`),
    frames: (id) => frames.get(id) ?? [], replay: (id, edit) => post(`/exchanges/${id}/replay`, edit ?? {}),
    har: async (ids, secrets) => (await call(token, 'POST', `${base}/har/export`, { ids, secrets })).blob(), importHar: async (file) => (await post('/har/import', file)).imported,
    clear: () => call(token, 'DELETE', `${base}/exchanges`), reconnect: () => post('/link/reconnect', {}).catch((e) => toast(e.message)),
  };
}
