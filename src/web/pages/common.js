// ---------------------------------------------------------------- DOM
const $ = (sel, root = document) => root.querySelector(sel);
const SVG = 'http://www.w3.org/2000/svg';

/**
 * Builds an element. Strings become text nodes: nothing that came over the wire is ever parsed as HTML, so the page
 * also runs under `require-trusted-types-for 'script'`. `style` goes through the CSSOM, which a strict CSP allows.
 */
function h(tag, props = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(props)) {
    if (v === undefined || v === null || v === false) continue;
    if (k === 'on') for (const [type, f] of Object.entries(v)) e.addEventListener(type, f);
    else if (k === 'style') for (const [p, x] of Object.entries(v)) e.style.setProperty(p, x);
    else if (k === 'data') Object.assign(e.dataset, v);
    else if (k === 'class') e.className = v;
    else if (k === 'value' || (k in e && typeof v !== 'string')) e[k] = v;
    else e.setAttribute(k, v === true ? '' : v);
  }
  e.append(...kids(children));
  return e;
}

/** Children as one flat list, without those that a condition left out. */
const kids = (list) => list.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false);
/** Replaces what an element holds. */
const put = (e, ...children) => e.replaceChildren(...kids(children));

function s(tag, attrs = {}, ...children) {
  const e = document.createElementNS(SVG, tag);
  for (const [k, v] of Object.entries(attrs)) e.setAttribute(k, v);
  e.append(...children);
  return e;
}

const ICONS = {
  copy: 'M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z',
  qr: 'M2.5 2.5h4v4h-4zM9.5 2.5h4v4h-4zM2.5 9.5h4v4h-4zM9.5 9.5h1.5v1.5M13.5 9.5v4h-2M9.5 13.5h0',
  pause: 'M5.5 3v10M10.5 3v10', play: 'M5 3l8 5-8 5z',
  clear: 'M3 4.5h10M6.5 4.5V3h3v1.5M4.5 4.5l.5 9h6l.5-9',
  in: 'M8 2v8M4.5 6.5L8 10l3.5-3.5M2.5 13.5h11', out: 'M8 10V2M4.5 5.5L8 2l3.5 3.5M2.5 13.5h11',
  replay: 'M3 8a5 5 0 1 0 1.6-3.7M3 2.5v3h3', edit: 'M3 13l.7-3L10.5 3.2l2.3 2.3L6 12.3z',
  down: 'M8 2.5v8M4.5 7L8 10.5 11.5 7M3 13.5h10', diff: 'M5.5 2.5v11M10.5 2.5v11M2.5 5.5h0M2.5 8h0M13.5 8h0M13.5 10.5h0M3 8h-1M14 8h-1',
  eye: 'M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8zM8 6.2a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6z',
  moon: 'M13 9.5A5.5 5.5 0 1 1 6.5 3a4.5 4.5 0 0 0 6.5 6.5z', sun: 'M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6zM8 1.5v1M8 13.5v1M1.5 8h1M13.5 8h1M3.4 3.4l.7.7M11.9 11.9l.7.7M3.4 12.6l.7-.7M11.9 4.1l.7-.7',
  help: 'M6 6.2C6 5 6.9 4.2 8 4.2s2 .8 2 1.9c0 1.5-2 1.6-2 3M8 11.6h0', close: 'M4 4l8 8M12 4l-8 8', back: 'M10 3L5 8l5 5',
  search: 'M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.3 10.3l3.2 3.2', up: 'M8 13V3M4 7l4-4 4 4', dn: 'M8 3v10M4 9l4 4 4-4',
  add: 'M8 3v10M3 8h10', power: 'M8 2v6M4.6 4.2a5 5 0 1 0 6.8 0', link: 'M9.5 3.5h3v3M12.5 3.5L7 9M6 4.5H3.5v8h8V10', logout: 'M6.5 3h-3v10h3M7 8h6M10.5 5.5L13 8l-2.5 2.5',
  more: 'M3.5 8h0M8 8h0M12.5 8h0',
  term: 'M2.5 3h11v10h-11zM5 6.5L7 8l-2 1.5M8.5 10h2.5',
};
const icon = (name) => s('svg', { class: 'i', viewBox: '0 0 16 16', 'aria-hidden': 'true' }, s('path', { d: ICONS[name] }));

/** A button; without a visible label it gets an accessible name and a tooltip. */
function button({ label, icon: ic, title, cls = '', onClick, ...rest }) {
  return h('button', { type: 'button', class: `btn ${label ? '' : 'icon'} ${cls}`, title, 'aria-label': label ? null : title, on: { click: onClick }, ...rest },
    ic && icon(ic), label);
}

// ---------------------------------------------------------------- text
// Joiners stay where a script or an emoji needs them; after ASCII they only hide something.
const BIDI = /[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]|(?<=[\x20-\x7e])[\u200c\u200d]/g;
const CONTROL = /[\u0000-\u001f\u007f]/g;
const markBidi = (c) => `‹U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}›`;
const markControl = (c) => (c === '\x7f' ? '\u2421' : String.fromCharCode(0x2400 + c.charCodeAt(0)));
/** One line of foreign text: what is invisible or turns the direction is shown, not obeyed. */
const oneLine = (t) => String(t).replace(BIDI, markBidi).replace(CONTROL, markControl);
/** The same for a block of text, which keeps its line ends and tabs. */
const block = (t) => String(t).replace(BIDI, markBidi).replace(CONTROL, (c) => (c === '\n' || c === '\t' || c === '\r' ? c : markControl(c)));

function bytes(n) {
  if (n === null || n === undefined) return '–';
  if (n < 1000) return `${n} B`;
  for (const u of ['kB', 'MB', 'GB', 'TB']) { n /= 1000; if (n < 999.5) return `${n < 10 ? n.toFixed(1) : Math.round(n)} ${u}`; }
  return `${Math.round(n)} PB`;
}
function duration(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
  return span(ms / 1000);
}
/** Seconds as the two largest units: 3 d 4 h. */
function span(sec) {
  const u = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
  const i = u.findIndex(([, k]) => sec >= k);
  if (i < 0) return '0 s';
  const a = Math.floor(sec / u[i][1]);
  const b = u[i + 1] ? Math.floor((sec % u[i][1]) / u[i + 1][1]) : 0;
  return `${a} ${u[i][0]}${b ? ` ${b} ${u[i + 1][0]}` : ''}`;
}
const two = (n) => String(n).padStart(2, '0');
const clockTime = (ms) => { const d = new Date(ms); return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`; };
const clockMs = (ms) => `${clockTime(ms)}.${String(Math.floor(ms % 1000)).padStart(3, '0')}`;

// ---------------------------------------------------------------- small parts
/** A message that goes by itself; `action` is a button in it. */
function toast(text, action) {
  const t = h('div', { class: 'toast' }, text, action);
  $('#toasts').append(t);
  setTimeout(() => t.remove(), action ? 8000 : 3500);
}
async function copyText(text, what) {
  try { await navigator.clipboard.writeText(text); } catch { // not a secure context, or refused
    const a = h('textarea', { value: text, 'aria-hidden': 'true' });
    (document.querySelector('dialog[open]') ?? document.body).append(a); a.select(); document.execCommand('copy'); a.remove();
  }
  toast(`${what} copied`);
}
function saveFile(name, data, type = 'application/octet-stream') {
  const url = URL.createObjectURL(new Blob([data], { type }));
  h('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
const safeName = (n) => n.replace(/[^\w.-]+/g, '_').slice(-80) || 'body';

/** An area chart of the values, w by h pixels, from 0 to the largest. */
function spark(values, w, hgt, label) {
  const top = Math.max(1, ...values), n = Math.max(1, values.length - 1);
  const pts = values.map((v, i) => `${(i / n * w).toFixed(1)},${(hgt - 1 - v / top * (hgt - 3)).toFixed(1)}`).join(' ');
  return s('svg', { class: 'spark', width: w, height: hgt, viewBox: `0 0 ${w} ${hgt}`, role: 'img', 'aria-label': label },
    s('polygon', { class: 'area', points: `0,${hgt} ${pts} ${w},${hgt}` }), s('polyline', { class: 'line', points: pts }));
}

/** Draws `{size, rows}` as it comes from the API: one hexadecimal string a row, the leftmost module its highest bit. */
function qrImage({ size, rows }, label) {
  let d = '';
  rows.forEach((row, y) => {
    for (let x = 0; x < size; x++) if (parseInt(row[x >> 2], 16) >> (3 - (x & 3)) & 1) d += `M${x + 4} ${y + 4}h1v1h-1z`;
  });
  return s('svg', { viewBox: `0 0 ${size + 8} ${size + 8}`, 'shape-rendering': 'crispEdges', role: 'img', 'aria-label': label }, s('path', { d, fill: '#000' }));
}

/** A modal dialog: the browser keeps the focus inside, Escape closes, the focus goes back to where it was. */
function openDialog({ title, body, foot, cls = '', focus }) {
  const before = document.activeElement;
  const id = `d${Math.random().toString(36).slice(2)}`;
  const dlg = h('dialog', { class: cls, 'aria-labelledby': id },
    h('div', { class: 'dlg-head' }, h('h2', { id, class: 'cut' }, title), button({ icon: 'close', title: 'Close', cls: 'quiet', onClick: () => dlg.close() })),
    h('div', { class: 'dlg-body' }, body), foot && h('div', { class: 'dlg-foot' }, foot));
  dlg.addEventListener('close', () => { dlg.remove(); before?.focus?.(); });
  dlg.addEventListener('click', (e) => { if (e.target === dlg) dlg.close(); });
  document.body.append(dlg);
  dlg.showModal();
  (focus ?? dlg.querySelector('.dlg-body input, .dlg-body button, .dlg-foot button'))?.focus();
  return dlg;
}
function showQr(url, qr) {
  openDialog({ title: 'Scan to open', body: h('div', { class: 'qr' }, qrImage(qr, `QR code of ${url}`), h('code', {}, url), button({ label: 'Copy link', icon: 'copy', onClick: () => copyText(url, 'Link') })) });
}

// ---------------------------------------------------------------- theme: the system's, until the switch is used
function initTheme(btn) {
  const query = new URLSearchParams(location.search).get('theme');
  let theme = query ?? sessionGet('theme');
  const dark = () => (theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
  const show = () => {
    if (theme) document.documentElement.dataset.theme = theme;
    btn.replaceChildren(icon(dark() ? 'sun' : 'moon'));
    btn.title = dark() ? 'Light theme' : 'Dark theme';
    btn.setAttribute('aria-label', btn.title);
  };
  btn.addEventListener('click', () => { theme = dark() ? 'light' : 'dark'; sessionSet('theme', theme); show(); });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', show);
  show();
}
function sessionGet(k) { try { return sessionStorage.getItem(`ht.${k}`); } catch { return null; } }
function sessionSet(k, v) { try { if (v === null) sessionStorage.removeItem(`ht.${k}`); else sessionStorage.setItem(`ht.${k}`, v); } catch { /* a private window */ } }

// ---------------------------------------------------------------- the way to the program
/**
 * fetch with the token in a header. No cookie is used: cookies do not distinguish ports, so the browser would hand an
 * inspector's cookie to every other service on 127.0.0.1, the exposed one among them.
 */
async function call(token, method, path, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const res = await fetch(path, { method, headers, body: body === undefined || body instanceof Blob ? body : JSON.stringify(body), credentials: 'omit', cache: 'no-store' });
  if (!res.ok) {
    const j = await res.json().catch(() => ({}));
    throw Object.assign(new Error(j.error ?? `HTTP ${res.status}`), { status: res.status });
  }
  return res;
}
/** Server-sent events through fetch, for EventSource cannot send a header. Comes back when the connection ends. */
async function readFeed(token, path, onEvent, signal) {
  const res = await fetch(path, { headers: { ...(token && { Authorization: `Bearer ${token}` }), Accept: 'text/event-stream' }, credentials: 'omit', cache: 'no-store', signal });
  if (!res.ok) throw Object.assign(new Error(`HTTP ${res.status}`), { status: res.status });
  const reader = res.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split('\n\n');
    text = parts.pop();
    for (const p of parts) {
      const f = { event: 'message', data: '' };
      for (const line of p.split('\n')) { const m = /^(event|data|id): ?(.*)$/.exec(line); if (m) f[m[1]] = m[1] === 'data' ? f.data + m[2] : m[2]; }
      if (f.data) onEvent(f.event, JSON.parse(f.data));
    }
  }
}
/** Reads a feed for ever, coming back after 0.5 s, then up to 10 s later each time. */
async function followFeed(token, path, onEvent, onState) {
  for (let wait = 500; ; wait = Math.min(wait * 2, 10000)) {
    try { await readFeed(token, path, (e, d) => { wait = 500; onState(true); onEvent(e, d); }); } catch (e) { if (e.status === 401) { onState(false, 401); return; } }
    onState(false);
    await new Promise((r) => setTimeout(r, wait));
  }
}
