// A driver made of the published TypeScript SDK, for the conformance suite. Nothing of the SDK is here: SDK_DIR names the
// directory in which its package is unpacked (the one with dist-ts/). Node 20 wants --experimental-websocket.
//
//   typescript-sdk.mjs expose|pull --url URL --target HOST:PORT [--port N] [--token TEXT] [--takeover]
//                      [--connections N] [--reconnect] [--resume ID]
//
// The SDK does not come back by itself after a lost link. With --reconnect this program does what one built on the SDK has to:
// a new TunnelSession with resumeSessionId, again and again until it stands. Every event is one JSON line; SIGTERM and
// SIGINT close the session and end with 0.
import { pathToFileURL } from "node:url";
import path from "node:path";
import process from "node:process";

const library = (name) => import(pathToFileURL(path.join(process.env.SDK_DIR ?? ".", "dist-ts", "lib", name)).href);
const { TunnelSession } = await library("tunnel-client.js");
const { setupAutoForwarding } = await library("tunnel-http-pump.js");

function options(argv) {
    const flags = new Set(["takeover", "reconnect"]);
    const out = { mode: argv[0], port: "0", token: "none", connections: "1" };
    for (let i = 1; i < argv.length; i++) {
        const name = argv[i].replace(/^--/, "");
        out[name] = flags.has(name) ? true : argv[++i];
    }
    return out;
}

const o = options(process.argv.slice(2));
const [, host, port] = o.target.match(/^(.*):(\d+)$/);
const target = { host, port: Number(port) };
const bind = o.mode === "expose"
    ? { kind: "http", mode: "expose", containerPort: Number(o.port), ...(o.takeover && { takeover: true }) }
    : { kind: "tcp", mode: "pull", containerPort: Number(o.port) };
const say = (event, more = {}) => process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let session = null;
let ending = false;

async function end(status) {
    if (ending)
        return;
    ending = true;
    await session?.close();
    await pause(50); // the close frame is still to be written
    process.exit(status);
}

async function connect(resumeSessionId) {
    session = new TunnelSession({
        url: o.url,
        token: o.token,
        ...(Number(o.connections) > 1 && { maxConnections: Number(o.connections) }),
        ...(resumeSessionId && { resumeSessionId }),
    });
    await session.connect();
    const mine = session;
    const { sessionId, resumed, resumedBinds, connectionsGranted } = session.hello;
    // hello is gone after close(), which a GOAWAY calls; it is still there after a dropped socket.
    session.onClose(() => void lost(sessionId, mine.hello !== null));
    setupAutoForwarding(session, target, target);
    say("connected", { sessionId, resumed, connectionsGranted });
    if (!resumed || resumedBinds.length === 0) {
        const { bindId, containerPort, publicUrl } = await session.bind(bind);
        say("bound", { bindId, containerPort, publicUrl: publicUrl ?? null, sessionId });
    } else {
        say("bound", { bindId: resumedBinds[0].bindId, containerPort: resumedBinds[0].containerPort, sessionId, resumed });
    }
}

let closing = false;

async function lost(sessionId, dropped) {
    if (ending || closing)
        return;
    say("disconnected", { dropped });
    closing = true;
    await session.close(); // the sockets of a v2 session that were not dropped
    closing = false;
    if (!dropped || !o.reconnect)
        return void end(7);
    for (let wait = 50; !ending; wait = Math.min(wait * 2, 1000)) {
        await pause(wait);
        try {
            return await connect(sessionId);
        } catch (error) {
            say("retry", { error: error.message });
        }
    }
}

process.on("SIGTERM", () => void end(0));
process.on("SIGINT", () => void end(0));

try {
    await connect(o.resume);
} catch (error) {
    say("failed", { error: error.message });
    await end(/^BIND_ERR/.test(error.message) ? 5 : 6);
}
