/*
 * The daemon `hoody-tunnel serve`: configuration and wiring. Drivers connect to the base listener, the admin API
 * answers there too, and the ports that drivers bind are served by relay/.
 *
 * A kit can be embedded: it lives on a loop that the caller runs.
 */
#ifndef HT_KIT_KIT_H
#define HT_KIT_KIT_H

#include "base/base.h"
#include "base/err.h"
#include "io/io.h"
#include "metrics_gen.h"
#include "options_gen.h"

/* What --version, HELLO_OK's `server` and the metrics say. The build sets it. */
#ifndef KIT_VERSION
#define KIT_VERSION "unknown"
#endif

struct kit;

/* `hoody-tunnel serve`: the arguments behind the word. Returns the program's exit code (enum opt_exit). */
int kit_main(int argc, char **argv);

/*
 * Opens the base listener. `opt` is borrowed until kit_destroy(). NULL with *err: the address is not safe to listen on
 * as configured, busy or not there, the token file cannot be read, or out of memory. `loop` stays the caller's.
 */
struct kit *kit_create(struct io_loop *loop, const struct opt_serve *opt, struct ht_errmsg *err) HT_MUST_USE;

/* Cuts everything and frees it. Not from inside a callback of this kit. Clears the pointer. NULL is ignored. */
void kit_destroy(struct kit **k);

/*
 * The orderly end (rule END-2): no driver and no visitor is accepted any more, each session gets GOAWAY, what is in
 * flight may finish for up to --drain-timeout, parked sessions go at once. The admin API answers until the end, so that
 * a drain can be watched and /readyz can say 503. `done` is called once, from the loop, when nothing is left.
 */
void kit_drain(struct kit *k, void (*done)(void *ctx), void *ctx);
/* What a drain may take beyond --drain-timeout: closing handshakes, at most 2 s each. */
#define KIT_CLOSE_ALLOWANCE_MS 2500

/*
 * Reads --token-file again. When the token has changed, everything ends that the old one has opened: sessions, live
 * (GOAWAY AUTH_ERROR) and parked, WebSockets before HELLO, and readers of events. On an error (see kit_create) the old
 * token stays in force. Returns an enum kit_token_reload or the error.
 */
enum kit_token_reload { KIT_TOKEN_NO_FILE, KIT_TOKEN_SAME, KIT_TOKEN_CHANGED };
int kit_reload_token(struct kit *k, struct ht_errmsg *err) HT_MUST_USE;

/* Reads all certificates again. One that cannot be used leaves the old one in force; the log says so. */
void kit_tls_reload(struct kit *k);
/* This process has become the user of --user: from now on files are opened as what it is. Warns of those that cannot.
 */
void kit_tls_own_rights(struct kit *k);

/* How things stand, in one line for people. */
#define KIT_STATUS_TEXT 160
void kit_status(const struct kit *k, char out[KIT_STATUS_TEXT]);

/* ---- for tests and for whoever embeds a kit ---- */

void kit_listen_addr(const struct kit *k, struct io_addr *out);
unsigned kit_sessions_live(const struct kit *k);
unsigned kit_sessions_parked(const struct kit *k);
unsigned kit_websockets(const struct kit *k); /* all, those before HELLO and those that are closing included */
unsigned kit_websockets_pre_auth(const struct kit *k);
unsigned kit_http_clients(const struct kit *k); /* connections of the base listener that are no WebSocket */
unsigned kit_streams(const struct kit *k);
unsigned kit_visitors(const struct kit *k);
unsigned kit_fd_permits_used(const struct kit *k);
struct ht_metrics *kit_metrics(struct kit *k);

#endif
