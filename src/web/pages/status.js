// ================================================================ the kit's status page
const S = { token: null, me: null, kit: null, sessions: [], events: [], text: '', who: 'all', state: 'any' };
// A kit may have thousands of sessions; what is beyond these is found with the search field or in the details.
const ROWS = 100, BINDS = 4;
let source;

// ---------------------------------------------------------------- sign in
/** The token stays in this tab: in memory, and in sessionStorage so that a reload does not ask again. */
async function signIn(token) {
  S.me = await source.me(token);
  S.token = token;
  sessionSet('kit', token || null);
  await load();
  source.follow(token, onEvent, onState);
}
function signOut() { sessionSet('kit', null); location.reload(); }
function drawLogin(message) {
  const field = h('input', { class: 'field', type: 'password', id: 'token', autocomplete: 'current-password', 'aria-describedby': 'tokenHelp', 'aria-invalid': message ? 'true' : null }), err = h('p', { class: 'err', role: 'alert' }, message);
  const go = async (e) => { e.preventDefault(); if (!field.value) return; try { await signIn(field.value.trim()); } catch (x) { put(err, x.status === 401 ? 'The kit does not know this token.' : x.status === 429 ? 'Too many tries. Wait a minute.' : `The kit did not answer: ${x.message}`); field.setAttribute('aria-invalid', 'true'); field.select(); } };
  put($('#who')); put($('#health'));
  $('#main').className = 'login';
  put($('#main'), h('form', { class: 'card', on: { submit: go } }, h('div', {}, h('h2', {}, 'Sign in to this kit'), h('p', { class: 'muted' }, 'With your token you see your own tunnels; an admin’s token shows all of them.')),
    h('div', {}, h('label', { for: 'token' }, 'Token'), field), err, h('button', { class: 'btn primary lg', type: 'submit' }, 'Sign in'),
    h('p', { class: 'muted', id: 'tokenHelp' }, 'It is the token that the driver uses: the contents of ', h('code', {}, '--token-file'), ' or ', h('code', {}, 'HOODY_TUNNEL_TOKEN'), '. It stays in this tab.')));
  field.focus();
}

// ---------------------------------------------------------------- data
async function load() {
  const d = await source.status(S.token);
  S.kit = d.kit; S.sessions = d.sessions; S.events = d.events;
  draw();
}
function onEvent(type, d) {
  if (type === 'sample') {
    const now = new Map(d.sessions.map((u) => [u.sessionId, u]));
    Object.assign(S.kit, d.kit);
    for (const x of S.sessions) { // of those that a sample does not name nothing moves
      const u = now.get(x.sessionId) ?? { rate: 0, streams: 0 };
      Object.assign(x, u, { traffic: [...x.traffic.slice(-59), u.rate] });
    }
    drawTiles(); redraw(); drawLimits();
    return;
  }
  S.events = [d, ...S.events].slice(0, 200);
  drawFeed();
  if (/^(session|bind|unbind|takeover|goaway)/.test(d.event)) refresh();
}
/** Asks once for what several events of one moment have changed. */
let asked = false;
function refresh() {
  if (asked) return;
  asked = true;
  setTimeout(async () => {
    asked = false;
    try { const x = await source.status(S.token); S.kit = x.kit; S.sessions = x.sessions; drawTiles(); drawTable(); drawLimits(); } catch { /* the feed tells when the kit is away */ }
  }, 150);
}
let down = false;
function onState(up, status) {
  if (status === 401) { signOut(); return; }
  const b = $('#banner');
  b.hidden = up; b.className = 'banner';
  if (!up) put(b, 'The kit does not answer.', h('span', {}, 'What you see is as of the last answer. Trying again.'));
  if (up && down) load().catch(() => {}); // what happened meanwhile was not told
  down = !up;
}
const mine = (x) => x.owner === S.me.name;
const found = new WeakMap(); // what the search field looks through, of each session
const wordsOf = (x) => found.get(x) ?? (found.set(x, JSON.stringify([x.owner, x.sessionId, x.peerAddr, x.bindings.map((b) => [b.port, b.url, b.label, b.names])]).toLowerCase()), found.get(x));
const visible = () => S.sessions.filter((x) => (S.who === 'all' || mine(x)) && (S.state === 'any' || x.state === S.state) && (!S.text || wordsOf(x).includes(S.text.toLowerCase())));

// ---------------------------------------------------------------- layout
function draw() {
  const m = $('#main');
  m.className = '';
  put(m, h('dl', { class: 'tiles', id: 'tiles', 'aria-label': 'The kit at a glance' }), h('div', { class: 'cols' }, h('section', { class: 'card', id: 'tunnels', 'aria-labelledby': 'h-t' }, tableHead(), h('div', { id: 'table' })),
    h('div', { class: 'rightcol' }, S.me.admin && h('section', { class: 'card', 'aria-labelledby': 'h-l' }, h('header', {}, h('h2', { id: 'h-l' }, 'Limits')), h('div', { class: 'limits', id: 'limits' })), h('section', { class: 'card', 'aria-labelledby': 'h-e' }, h('header', {}, h('h2', { id: 'h-e' }, 'Events'), !S.me.admin && h('span', { class: 'muted' }, 'of your tunnels')), h('ul', { class: 'feed', id: 'feed', tabindex: '0', 'aria-label': 'Events, newest first' })))));
  put($('#who'), h('span', { class: 'who-name' }, S.me.name), h('span', { class: 'pill' }, S.me.admin ? 'admin' : 'user'), button({ icon: 'logout', title: 'Sign out', cls: 'quiet', onClick: signOut }));
  drawTiles(); drawTable(); drawFeed(); drawLimits();
}
function tableHead() {
  const seg = (key, opts) => { const g = h('div', { class: 'seg', role: 'group', 'aria-label': key === 'who' ? 'Owner' : 'State' }, opts.map(([v, w]) => h('button', { type: 'button', 'aria-pressed': String(S[key] === v), on: { click: (e) => { S[key] = v; [...g.children].forEach((b) => b.setAttribute('aria-pressed', String(b === e.target))); drawTable(); } } }, w))); return g; };
  return h('header', {}, h('h2', { id: 'h-t', class: 'grow' }, S.me.admin ? 'Tunnels' : 'Your tunnels'), h('div', { class: 'search' }, h('label', { class: 'sr', for: 'find' }, 'Find'), h('input', { class: 'field', id: 'find', type: 'search', placeholder: 'Find owner, port, address', on: { input: (e) => { S.text = e.target.value; drawTable(); } } })), S.me.admin && seg('who', [['all', 'All'], ['mine', 'Mine']]), seg('state', [['any', 'Any'], ['live', 'Live'], ['parked', 'Parked']]));
}
const part = (used, max) => used / Math.max(1, max);
const level = (p) => (p >= 0.9 ? 'bad' : p >= 0.7 ? 'warn' : '');
function drawTiles() {
  const k = S.kit, tile = (name, value, note, cls = '', small) => h('div', { class: `card tile ${cls}` }, h('dt', {}, name), h('dd', { class: small ? 'small' : '' }, value), h('dd', { class: 'note' }, note));
  put($('#health'), h('span', { class: `pill ${k.state === 'ok' ? 'ok' : 'warn'}` }, h('span', { class: 'dot' }), k.state === 'ok' ? 'Healthy' : 'Draining'));
  put($('#tiles'), tile('Sessions', k.sessions.used, `of at most ${k.sessions.max}`), tile('Parked', k.parked, k.parked ? 'waiting for their drivers' : 'none is waiting', k.parked ? 'attn' : ''), tile('Bindings', k.bindings.used, `${k.exposed} expose, ${k.bindings.used - k.exposed} pull`), tile('Streams', k.streams.used.toLocaleString('en'), `${k.requestsPerSecond.toFixed(1)} requests/s`), S.me.admin && tile('Descriptors', k.descriptors.used.toLocaleString('en'), `of ${k.descriptors.max.toLocaleString('en')}`, level(part(k.descriptors.used, k.descriptors.max)) ? 'attn' : ''), tile('Up for', span(k.uptimeS), `since ${new Date(Date.now() - k.uptimeS * 1000).toISOString().slice(0, 16).replace('T', ' ')} UTC`, '', true), tile('Version', k.version, `built ${k.built.slice(0, 10)}`, '', true));
}
function drawLimits() {
  const box = $('#limits'); if (!box) return;
  put(box, S.kit.limits.map((l) => { const p = part(l.used, l.max), f = l.unit === 'bytes' ? bytes : (n) => n.toLocaleString('en'); return h('div', {}, h('div', { class: 'lab num' }, h('span', {}, l.name), h('b', {}, f(l.used), h('span', { class: 'muted' }, ` / ${f(l.max)}`))), h('div', { class: `meter ${level(p)}`, role: 'meter', 'aria-label': l.name, 'aria-valuemin': '0', 'aria-valuemax': String(l.max), 'aria-valuenow': String(l.used) }, h('b', { style: { width: `${(p * 100).toFixed(1)}%` } }))); }));
}

// ---------------------------------------------------------------- tunnels
function drawTable() {
  const box = $('#table'), rows = visible(), focus = document.activeElement?.dataset?.key;
  if (!rows.length) { put(box, S.sessions.length ? h('div', { class: 'none' }, 'No tunnel matches.') : noTunnel()); return; }
  const head = [['Tunnel', 'w-link'], ['Owner', 'w-owner'], ['State', 'w-state'], ['Streams', 'w-str r'], ['Traffic, last minute', 'w-spark'], ['Round trip', 'w-rtt r'], ['Age', 'w-age r'], ['', 'w-act']];
  put(box, h('table', { class: 'tunnels' }, h('thead', {}, h('tr', {}, head.map(([w, c]) => h('th', { scope: 'col', class: c }, w || h('span', { class: 'sr' }, 'Actions'))))), h('tbody', {}, rows.slice(0, ROWS).map(row))), rows.length > ROWS && h('p', { class: 'none more' }, `and ${(rows.length - ROWS).toLocaleString('en')} more: find them by owner, port or address`));
  if (focus) box.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus(); // a redraw does not take the focus away
}
/** What a second changes is drawn at once, but for no more than a tenth of the time, however many rows there are. */
let drawnAt = 0, drawCost = 0;
function redraw() {
  const t = performance.now();
  if (t - drawnAt < 10 * drawCost) return;
  drawnAt = t;
  drawTable();
  requestAnimationFrame(() => setTimeout(() => { drawCost = performance.now() - t; }));
}
function noTunnel() { return h('div', { class: 'none' }, h('h3', {}, 'No tunnel yet'), h('p', {}, 'On your laptop, beside your service:'), h('code', { class: 'foreign' }, `hoody-tunnel expose 3000 --url ${oneLine(S.kit.url)}`)); }
function row(x) {
  const quiet = x.state === 'parked';
  return h('tr', {}, h('td', { class: 'c-link' }, x.bindings.slice(0, BINDS).map((b) => bindLine(b, x)), x.bindings.length > BINDS && h('div', { class: 'bind muted' }, `and ${x.bindings.length - BINDS} more`)), h('td', { class: 'c-owner cut foreign' }, oneLine(x.owner), mine(x) && S.me.admin && h('span', { class: 'you' }, ' (you)')), h('td', { class: 'c-state' }, statePill(x)),
    h('td', { class: 'lab num r', 'data-label': 'Streams' }, quiet && !x.streams ? h('span', { class: 'muted' }, '–') : [String(x.streams), h('span', { class: 'muted' }, ` / ${x.maxStreams}`)]), h('td', { class: `c-spark ${quiet ? 'idle' : ''}` }, h('div', { class: 'byt' }, spark(x.traffic, 92, 24, `Traffic of ${oneLine(x.owner)}`), h('span', { class: 'num' }, quiet ? h('span', { class: 'muted' }, '–') : `${bytes(x.rate)}/s`))),
    h('td', { class: 'lab num r', 'data-label': 'Round trip' }, quiet ? h('span', { class: 'muted' }, '–') : duration(x.rttMs)), h('td', { class: 'lab num r', 'data-label': 'Age' }, span(x.ageS)),
    h('td', { class: 'c-act r' }, h('div', { class: 'gauge' }, button({ icon: 'more', title: `Details of ${oneLine(x.owner)}’s session`, cls: 'quiet tiny', 'data-key': `d${x.sessionId}`, onClick: () => showSession(x) }), (S.me.admin || mine(x)) && x.state !== 'draining' && button({ icon: 'power', title: `End ${oneLine(x.owner)}’s session`, cls: 'quiet tiny danger-text', 'data-key': `k${x.sessionId}`, onClick: () => askKill(x) }))));
}
const isLink = (url) => /^https?:\/\//.test(url ?? ''); // whatever a kit says, a link leads to a web page
function bindLine(b, x) {
  const key = x.sessionId + b.bindId, url = isLink(b.url) && b.url;
  const what = url ? h('a', { class: 'cut foreign', href: url, target: '_blank', rel: 'noopener noreferrer' }, oneLine(url.replace(/^https?:\/\//, '')))
    : h('code', { class: 'cut foreign' }, b.port ? `127.0.0.1:${b.port}` : oneLine((b.names ?? []).join(', ') || 'by name'));
  return h('div', { class: 'bind', title: b.label ? oneLine(b.label) : null }, h('span', { class: 'mode' }, b.mode), what, url && h('span', { class: 'muted num' }, `:${b.port}`), b.label && h('span', { class: 'muted cut foreign label' }, oneLine(b.label)), h('span', { class: 'grow' }),
    url && button({ icon: 'copy', title: `Copy ${oneLine(url)}`, cls: 'quiet tiny', 'data-key': `c${key}`, onClick: () => copyText(url, 'URL') }), url && b.qr && button({ icon: 'qr', title: `QR code of ${oneLine(url)}`, cls: 'quiet tiny', 'data-key': `q${key}`, onClick: () => showQr(url, b.qr) }));
}
function statePill(x) {
  if (x.state === 'parked') return h('span', { class: 'pill warn num', title: 'The driver is away; its ports are held for it' }, h('span', { class: 'dot' }), `Parked · ${Math.max(0, Math.ceil(x.graceMs / 1000))} s`);
  if (x.state === 'draining') return h('span', { class: 'pill info' }, h('span', { class: 'dot' }), 'Draining');
  return h('span', { class: 'pill ok' }, h('span', { class: 'dot' }), 'Live');
}
/** Counts are told with the whole status only, so they are asked for anew. */
async function showSession(old) {
  const x = await source.status(S.token).then((d) => d.sessions.find((k) => k.sessionId === old.sessionId), () => null) ?? old;
  const facts = [['Session', x.sessionId], ['Driver', x.peerAddr], ['Protocol', x.protocol], ['WebSockets', `${x.connections.length} of ${x.connectionsGranted}`], ['Bytes in', bytes(x.bytesIn)], ['Bytes out', bytes(x.bytesOut)], ['Requests', x.requests.toLocaleString('en')], ['Opened', new Date(Date.now() - x.ageS * 1000).toISOString().slice(0, 19).replace('T', ' ')]];
  openDialog({ title: `Session of ${oneLine(x.owner)}`, body: h('div', { class: 'stack' }, h('dl', { class: 'facts num' }, facts.map(([k, v]) => [h('dt', {}, k), h('dd', { class: 'foreign' }, oneLine(v))])), h('div', {}, x.bindings.map((b) => bindLine(b, x)))) });
}
/** Killing is for good, so the safe button has the focus and the words say what will happen. */
function askKill(x) {
  const grace = h('select', { class: 'field', id: 'grace' }, [['100', 'Cut after 0.1 s (as by default)'], ['1000', 'Give them 1 s'], ['5000', 'Give them 5 s'], ['0', 'Cut at once']].map(([v, w]) => h('option', { value: v }, w)));
  const cancel = button({ label: 'Keep it', onClick: () => dlg.close() }), kill = button({ label: 'End the session', icon: 'power', cls: 'danger', onClick: async () => { kill.disabled = true; try { await source.kill(S.token, x.sessionId, grace.value); dlg.close(); toast(`The session of ${oneLine(x.owner)} is closing`); } catch (e) { kill.disabled = false; toast(e.message); } } });
  const n = x.bindings.length, dlg = openDialog({ title: `End ${oneLine(x.owner)}’s session?`, focus: cancel, body: h('div', { class: 'stack' }, h('p', {}, `Its ${n} port${n > 1 ? 's' : ''} (${x.bindings.map((b) => b.port).join(', ')}) become${n > 1 ? '' : 's'} free at once and the driver ends; it cannot resume. `), x.streams > 0 && h('p', { class: 'warnbox' }, `${x.streams} request${x.streams > 1 ? 's are' : ' is'} under way.`), h('div', {}, h('label', { for: 'grace', class: 'lbl' }, 'What is under way'), grace)), foot: [cancel, kill] });
}

// ---------------------------------------------------------------- events
const EVENT_LOOK = { 'session-opened': 'ok', 'session-resumed': 'ok', 'session-parked': 'warn', 'session-ended': '', bind: 'info', unbind: '', takeover: 'warn', goaway: 'bad', 'restart-begun': 'info', 'restart-failed': 'bad', restarted: 'ok', restored: 'warn' };
function eventWords(e) {
  const who = oneLine(e.owner ?? e.sessionId ?? 'a driver'), port = `port ${e.port}`;
  return { 'session-opened': [`${who} connected`, e.peerAddr], 'session-resumed': [`${who} is back`, e.reason], 'session-parked': [`${who} lost the link`, e.reason], 'session-ended': [`${who} left`, e.reason], bind: [`${who} ${e.mode === 'pull' ? 'pulls' : 'exposes'} ${port}`, e.url], unbind: [`${who} gave up ${port}`, e.reason], takeover: [`${who} took over ${port}`, e.reason], goaway: [e.sender === 'kit' ? `${who} was sent away` : `${who} said goodbye`, e.reason], 'restart-begun': ['The kit is started anew'], 'restart-failed': ['A restart failed', e.reason], restarted: ['The kit was restarted', `${e.sessions} sessions, ${e.pausedMs} ms`], restored: ['The kit was started', `${e.sessions} sessions of before`] }[e.event] ?? [e.event, e.reason];
}
function drawFeed() {
  put($('#feed'), S.events.length ? S.events.map((e) => { const [w, note] = eventWords(e); return h('li', { class: EVENT_LOOK[e.event] ?? '' }, h('time', { datetime: e.time, title: e.time }, clockTime(Date.parse(e.time))), h('span', { class: 'dot' }), h('p', { class: 'foreign' }, w, note && h('span', { class: 'muted' }, oneLine(note)))); }) : h('li', {}, h('span'), h('span'), h('p', { class: 'muted' }, 'Nothing yet.')));
}

function init() {
  initTheme($('#theme'));
  source = apiSource();
  const kept = sessionGet('kit');
  // A kit without a token lets everybody in who can reach it.
  signIn(kept ?? '').catch((e) => drawLogin(e.status !== 401 ? e.message : kept ? 'The kit no longer knows this token.' : ''));
  setInterval(() => { let any = false; for (const x of S.sessions) { x.ageS++; if (x.state === 'parked') { x.graceMs -= 1000; any = true; } } if (S.kit) S.kit.uptimeS++; if (any) redraw(); }, 1000);
}

// ================================================================ the kit as the source; api.md describes each call
function apiSource() {
  const base = '/api/v1/tunnel', get = async (t, p) => (await call(t, 'GET', base + p)).json();
  return { me: (t) => get(t, '/me'), status: (t) => get(t, '/status'), kill: (t, id, grace) => call(t, 'DELETE', `${base}/sessions/${encodeURIComponent(id)}?grace_ms=${grace}`), follow: (t, on, st) => followFeed(t, `${base}/events?samples=1`, on, st) };
}
