/*
 * The daemon `hoody-tunnel serve`. Drivers connect to its base listener, which also serves the admin API. The room
 * relay serves the ports that drivers bind.
 *
 * A program can embed a kit: the kit uses a loop that the program runs.
 */
#ifndef HT_KIT_KIT_H
#define HT_KIT_KIT_H

#include "base/base.h"
#include "base/err.h"
#include "io/io.h"
#include "metrics_gen.h"
#include "options_gen.h"

/* The version in --version, in HELLO_OK's `server` and in the metrics. The build sets it. */
#ifndef KIT_VERSION
#define KIT_VERSION "unknown"
#endif

struct kit;

/* Runs `hoody-tunnel serve` with the arguments behind that word. Returns the exit status (enum opt_exit). */
int kit_main(int argc, char **argv);

/*
 * Makes a kit and opens its base listener. The caller keeps owning `loop` and `opt`; both must outlive the kit. NULL:
 * *err says why. The address is not safe with these options, in use or not available; the token file cannot be read; or
 * there is no memory.
 */
struct kit *kit_create(struct io_loop *loop, const struct opt_serve *opt, struct ht_errmsg *err) HT_MUST_USE;

/* The same for a kit that follows another one: `certificate` is the sealed memory file in which that one has left the
 * certificate of --tls-self-signed (kit_certificate_of(), successor_certificate()); -1: none. It stays the caller's. */
struct kit *kit_create_after(struct io_loop *loop, const struct opt_serve *opt, int certificate,
                             struct ht_errmsg *err) HT_MUST_USE;

/* Cuts all connections and frees the kit. Not inside a callback of this kit. Clears the pointer. NULL is ignored. */
void kit_destroy(struct kit **k);

/*
 * Starts the orderly end (rule END-2). New drivers and visitors are refused. Each session gets GOAWAY, and open streams
 * may finish for up to --drain-timeout. Parked sessions end at once. The admin API answers until the end, so that a
 * drain can be watched, and /readyz answers 503. done() is called once, from the loop, when nothing is left.
 */
void kit_drain(struct kit *k, void (*done)(void *ctx), void *ctx);
/* How long a drain may last beyond --drain-timeout, for closing handshakes of at most 2 s each. */
#define KIT_CLOSE_ALLOWANCE_MS 2500

/*
 * Reads --token-file or --users again. Everything that was opened with a token that is no longer valid ends: live
 * sessions (GOAWAY AUTH_ERROR), parked ones, WebSockets before HELLO, readers of events, and clients of the CONNECT
 * proxy. Returns an enum kit_token_reload, or a negative error with *err, as kit_create(); then nothing has changed.
 */
enum kit_token_reload { KIT_TOKEN_NO_FILE, KIT_TOKEN_SAME, KIT_TOKEN_CHANGED, KIT_USERS_SAME, KIT_USERS_CHANGED };
int kit_reload_token(struct kit *k, struct ht_errmsg *err) HT_MUST_USE;

/* Reads all certificates again. One that cannot be used leaves the old one in force; the log says so. */
void kit_tls_reload(struct kit *k);
/* Call it once this process has become the user of --user: certificates are then opened with its own rights. Logs a
 * warning for each file that it cannot open. */
void kit_tls_own_rights(struct kit *k);

/* Makes a token of 256 random bits, and the text that stands for it in the file of --users (its digest). */
#define KIT_TOKEN_TEXT 48
#define KIT_TOKEN_LINE 72
void kit_token_new(char token[KIT_TOKEN_TEXT], char line[KIT_TOKEN_LINE]);
/* True when a user may have this name: 1 to 63 letters, digits, or . _ @ -. */
bool kit_user_name_good(const char *name);

/* One line for people: whether the kit drains, and how many sessions, streams and visitors it has. */
#define KIT_STATUS_TEXT 160
void kit_status(const struct kit *k, char out[KIT_STATUS_TEXT]);

/* ---- what outlives the process: sockets, and records of sessions (spec/restart.yaml) ---- */

struct proc_inheritance;
struct proc_notify;
struct proc_slots;
struct proc_starter;

/* Gives the loop the sockets that this process has inherited, for kit_create() and kit_restore(). */
void kit_inherit_sockets(struct io_loop *loop, struct proc_inheritance *in);
/* The memory file with a certificate that the manager has stored, which stays in `in`; -1: there is none. */
int kit_certificate_of(const struct proc_inheritance *in);
/*
 * Makes the sessions anew of which an earlier kit has left records: in a memory file that was inherited, or in the
 * files of --state-dir, whichever are newer. What cannot be used is logged. `in`, `slots`: may be NULL. Inherited
 * sockets that nobody wants are closed, and the manager forgets them.
 */
void kit_restore(struct kit *k, const struct proc_inheritance *in, const struct proc_slots *slots,
                 const struct proc_notify *manager);

/* Where a kit keeps records of its sessions from now on. Each may be NULL, and outlives the kit otherwise. */
struct kit_keep {
    const struct proc_slots *slots;
    const struct proc_notify *manager;
    const struct proc_starter *starter; /* puts the slots on the disk */
};
/* 0 or HT_ENOMEM. */
int kit_keep_records(struct kit *k, const struct kit_keep *keep) HT_MUST_USE;

/* ---- for tests and programs that embed a kit ---- */

/* The address of the base listener, with the real port. */
void kit_listen_addr(const struct kit *k, struct io_addr *out);
/* The first address of --public, with the real port. False: there is none. */
bool kit_public_addr(const struct kit *k, struct io_addr *out);
unsigned kit_sessions_live(const struct kit *k);
unsigned kit_sessions_parked(const struct kit *k);
unsigned kit_websockets(const struct kit *k); /* all of them, before HELLO and closing ones included */
unsigned kit_websockets_pre_auth(const struct kit *k);
unsigned kit_http_clients(const struct kit *k); /* connections of the base listener that are not WebSockets */
unsigned kit_streams(const struct kit *k);
unsigned kit_visitors(const struct kit *k);
unsigned kit_fd_permits_used(const struct kit *k);
/* Whether a timer runs once a second, for the traffic of the status page. */
bool kit_counts_seconds(const struct kit *k);
struct ht_metrics *kit_metrics(struct kit *k);

#endif
