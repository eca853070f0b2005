/*
 * The program `hoody-tunnel`: what its files share.
 *
 *   main.c          finds the command and runs it
 *   common.c        complaints, help
 *   cmd_about.c     version, completion
 *   cmd_tunnel.c    expose, pull, reach
 *   cmd_vtunnel.c   vtunnel-client
 *   cmd_up.c        up, config check
 *   config*.c       the file of up (config.h)
 *   tunnel.c        what those run
 *   cmd_demo.c      demo: kit, driver and sample page in one process
 *   cmd_admin.c     list, status, sessions list, sessions kill, bindings list, health, ready, metrics
 *   cmd_events.c    events
 *   cmd_requests.c  requests list, show, replay
 *   cmd_doctor.c    doctor
 *   cmd_env.c       env
 *   cmd_edge.c      edge dev, edge up: a kit and the edge in one process
 *   cmd_edge_api.c  edge containers, services, state: the API of an edge on this machine
 *   cmd_edge_aliases.c  edge aliases
 *   cmd_edge_domains.c  edge domains
 *   cmd_edge_logs.c edge logs, edge stats
 *   cmd_edge_doctor.c  edge doctor
 *   cmd_restart.c   restart
 *   admin_client.c  which request a question to a kit is
 *   table.c         aligned columns
 *   checks.c        what doctor and edge doctor have found (checks.h)
 *   output.c        lines on standard output that never hold up the tunnel
 *   text.c          texts for terminals, rows of a width, JSON strings, numbers for people
 *   screen.c        a block of lines at the bottom of a terminal, drawn in place
 *   live.c          what that block shows of a tunnel
 *   qr.c            a URL for a telephone's camera
 *   events.c        what a tunnel tells, as lines
 *   files.c         --url-file, --state-file, ready about the latter
 *   audit.c         --audit
 *   sample.c        the page that `expose --sample` and `demo` show
 *   target.c        [CONTAINER_PORT=]LOCAL, NAME[:PORT][=TARGET]
 *   token.c         the token's file
 *   proxy.c         the proxy before the kit
 *   access.c        which kit is asked, and what is shown to it
 *   kits.c          what login has stored (kits.h)
 *   cmd_login.c     login, logout
 */
#ifndef HT_CLI_CLI_H
#define HT_CLI_CLI_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "driver/hoody_tunnel.h"
#include "inspect/server.h"
#include "io/io.h"
#include "options_gen.h"
#include "web/web.h"
#include "wire_gen.h"

#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Each takes the arguments behind the command's words and returns the exit status. */
int cmd_expose(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_vtunnel_client(int argc, char **argv);
int cmd_reach(int argc, char **argv);
int cmd_up(int argc, char **argv);
int cmd_config_check(int argc, char **argv);
int cmd_demo(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_login(int argc, char **argv);
int cmd_logout(int argc, char **argv);
int cmd_sessions_list(int argc, char **argv);
int cmd_sessions_kill(int argc, char **argv);
int cmd_bindings_list(int argc, char **argv);
int cmd_health(int argc, char **argv);
int cmd_ready(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_metrics(int argc, char **argv);
int cmd_events(int argc, char **argv);
int cmd_requests_list(int argc, char **argv);
int cmd_requests_show(int argc, char **argv);
int cmd_requests_replay(int argc, char **argv);
int cmd_env(int argc, char **argv);
int cmd_edge_aliases(int argc, char **argv);
int cmd_edge_containers(int argc, char **argv);
int cmd_edge_dev(int argc, char **argv);
int cmd_edge_domains(int argc, char **argv);
int cmd_edge_permissions(int argc, char **argv);
int cmd_edge_hooks(int argc, char **argv);
int cmd_edge_settings(int argc, char **argv);
int cmd_edge_cache(int argc, char **argv);
int cmd_edge_services(int argc, char **argv);
int cmd_edge_state(int argc, char **argv);
int cmd_edge_up(int argc, char **argv);
int cmd_edge_logs(int argc, char **argv);
int cmd_edge_stats(int argc, char **argv);
int cmd_edge_doctor(int argc, char **argv);
int cmd_version(int argc, char **argv);
int cmd_completion(int argc, char **argv);
int cmd_token_new(int argc, char **argv);
int cmd_restart(int argc, char **argv);
int cmd_password_new(int argc, char **argv);

/* How the program was called, for commands that a reader may copy. */
extern const char *cli_program;

/* "hoody-tunnel: text" on standard error, control bytes escaped. */
void cli_complain(const char *fmt, ...) HT_PRINTF(1, 2);
/* Called before each write to standard error; NULL: nothing is called. The live view uses it to make room. */
extern void (*cli_before_complaint)(void);
/* Handles the result `rc` != 0 of a generated parser: prints help, the version or the error. Returns the exit status.
 */
int cli_parse_result(int rc, enum opt_command_id command, const struct ht_errmsg *err);
int cli_version(void);
/* Appended to the message about a kit that was not reached, when the user has not named a kit. */
#define CLI_NAME_THE_KIT "; --url or HOODY_TUNNEL_URL names a kit elsewhere, and `hoody-tunnel login` stores one"
#define CLI_GIVE_A_TOKEN "--token-file or HOODY_TUNNEL_TOKEN gives one, and `hoody-tunnel login` stores it"
#define CLI_STORED_TOKEN "it is the one that `hoody-tunnel login` has stored; another login replaces it"
/* Explains an answer of the admin API whose status is not 2xx. `said` is the error in its body, or "". `token` is the
 * token that was shown; `stored`: it was stored by login. */
void cli_complain_status(unsigned status, const char *said, const char *token, bool stored);
/* True when standard input was a terminal at the first call and is none any more. Safe in signal handlers. */
bool cli_terminal_gone(void);
/* True when lines on `fd` get colours. --color decides, then NO_COLOR (no-color.org), then whether it is a terminal. */
bool cli_use_color(enum opt_color color, int fd);

/* ---- target.c ---- */

struct cli_target {
    uint16_t container_port; /* 0: the kit picks */
    const char *local;       /* the target for the driver, a part of the argument */
};

/* Reads [CONTAINER_PORT=]LOCAL. Without a container port it is the local port's number. 0, or HT_EINVAL with *err. */
int cli_target_parse(struct cli_target *t, const char *text, struct ht_errmsg *err) HT_MUST_USE;

/* The name by which a pulled target can be reached too: its host, if that is another machine, no address, and without
 * TLS of the driver. False: there is none. */
#define CLI_NAME 300
bool cli_target_name(const char *local, char out[CLI_NAME]);
/* Reads NAME[:PORT][=TARGET] of `reach`. *target is the part behind the =, or NULL. 0, or HT_EINVAL with *err. */
int cli_reach_parse(const char *text, const char **target, struct ht_errmsg *err) HT_MUST_USE;

/* ---- token.c ---- */

/*
 * Finds the token: the first line of `file` if it is not NULL, else `from_env`, which may be NULL. `out` is "" when
 * there is none. Warns when other users can read the file. 0, or HT_EIO or HT_EINVAL with *err.
 */
int cli_token(const char *file, const char *from_env, char out[WIRE_LIMIT_MAX_TOKEN + 1],
              struct ht_errmsg *err) HT_MUST_USE;

/* Reads the first line of standard input, without blanks at its end. 0, HT_EIO, or HT_ELIMIT: it is too long. */
int cli_read_line(char out[WIRE_LIMIT_MAX_TOKEN + 1]) HT_MUST_USE;
/* The same from a terminal, which does not show what is typed. */
int cli_read_unseen(const char *prompt, char out[WIRE_LIMIT_MAX_TOKEN + 1]) HT_MUST_USE;

/* Checks a token and copies it to `out`. `where` names its source in the message. 0, or HT_EINVAL with *err. */
int cli_token_check(const char *token, const char *where, char out[WIRE_LIMIT_MAX_TOKEN + 1],
                    struct ht_errmsg *err) HT_MUST_USE;

/* The first line of a file of secrets, `what` in messages. Warns when other users can read the file. 0, or HT_EIO or
 * HT_EINVAL with *err. */
int cli_secret_line(const char *what, const char *file, char out[WIRE_LIMIT_MAX_TOKEN + 1],
                    struct ht_errmsg *err) HT_MUST_USE;

/* ---- proxy.c: each command that talks to a kit calls cli_proxy_set() first ---- */

struct driver_url;
struct io_proxy;

/* From the options of a command that has them. */
#define CLI_PROXY(o) cli_proxy_set((o).proxy, (o).proxy_auth_file, (o).proxy_ca)
/* The texts are borrowed for the rest of the process. */
void cli_proxy_set(const char *url, const char *auth_file, const char *ca);
/* For a tunnel: completes *o, which then points to `auth`. The caller wipes that. 0, or HT_EIO or HT_EINVAL with *err.
 */
int cli_proxy_put(struct ht_tunnel_options *o, char auth[WIRE_LIMIT_MAX_TOKEN + 1], struct ht_errmsg *err) HT_MUST_USE;
/* For requests: the proxy that leads to this kit; NULL: none is needed. It lives as long as the process. 0, or
 * HT_EINVAL, HT_ETLS or HT_ENOMEM with *err. */
int cli_proxy_for(const struct driver_url *kit, const struct io_proxy **out, struct ht_errmsg *err) HT_MUST_USE;
/* Wipes the credentials in the argument: everybody on this machine may read the arguments of a process. */
void cli_proxy_hide(void);
/* "" when there is no --proxy-auth-file. The caller wipes `out`. 0, or HT_EIO or HT_EINVAL with *err. */
int cli_proxy_auth(char out[WIRE_LIMIT_MAX_TOKEN + 1], struct ht_errmsg *err) HT_MUST_USE;

/* ---- access.c ---- */

/*
 * The kit for a command, and what is shown to it. The caller fills in what arguments, variables and the file of `up`
 * say. The rest comes from what `login` has stored: the default kit, and the token, authorities and pin of the chosen
 * kit. A stored token is never shown to another kit.
 */
struct cli_access {
    const char *url, *ca, *pin, *token_file, *token; /* NULL: not given; `url` has its default already */
    bool set_url;                                    /* the user has given it */
    bool stored_url, stored_token;                   /* result: it was stored by login */
};

/* From the options of a command that has them all. */
#define CLI_ACCESS(o)                                                                                                  \
    {                                                                                                                  \
        .url = (o).url, .ca = (o).ca, .pin = (o).pin, .token_file = (o).token_file, .token = (o).token,                \
        .set_url = (o).set_url                                                                                         \
    }

/* Completes *a; its texts are valid until the next call. `token` is "" when there is none. 0, or HT_EIO, HT_EINVAL or
 * HT_ENOMEM with *err. */
int cli_access(struct cli_access *a, char token[WIRE_LIMIT_MAX_TOKEN + 1], struct ht_errmsg *err) HT_MUST_USE;
/* Where an option's value comes from: returns `option` for an argument, or `variable`. */
const char *cli_from_where(const char *text, const char *option, const char *variable);

/* ---- output.c ---- */

/* Lines for standard output. They are collected during a turn and written at its end. When the reader stops reading,
 * lines are dropped, so that the tunnel never waits. */
struct cli_output {
    struct io_loop *loop;
    struct ht_buf buf;
    struct io_task task;
    struct io_timer retry;
    unsigned long dropped; /* lines for which there was no room */
    bool dead;             /* the reader is gone: EPIPE and similar errors */
};

void cli_output_init(struct cli_output *o, struct io_loop *loop);
/* Adds one whole line, with its newline. */
void cli_output_line(struct cli_output *o, struct ht_slice line);
/* Writes the rest, for which it waits up to a second, and frees everything. */
void cli_output_finish(struct cli_output *o);

/* Bytes that wait to be written; SIZE_MAX: the reader is gone. */
size_t cli_output_waiting(const struct cli_output *o);
/* Writes now what the reader takes within `wait_ms`. */
void cli_output_flush(struct cli_output *o, int wait_ms);

/* ---- text.c ---- */

/* True when the terminal shows UTF-8. The first call sets the locale's character set. */
bool cli_utf8(void);
/* Appends a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD. 0 or HT_ENOMEM. */
int cli_json_string(struct ht_buf *b, const char *text) HT_MUST_USE;
/* A name or host was refused. When it has letters beyond ASCII, *err becomes a sentence with its A-labels, if those can
 * be known. */
void cli_idn_hint(const char *text, struct ht_errmsg *err);

/* Appends text of a peer, safe to show: control characters and invalid bytes are escaped. 0 or HT_ENOMEM. */
int cli_put_text(struct ht_buf *b, const char *text) HT_MUST_USE;

/*
 * One row of a terminal. Text beyond `columns` is cut off, and a sign shows that. With `wrap` nothing is cut off: the
 * terminal continues in its next row, and treats both as one line when the user copies it. `used` then counts the
 * columns of all rows, including columns that stay empty because a wide character did not fit.
 */
struct cli_row {
    struct ht_buf *b;
    unsigned columns, used;
    bool color, full, wrap;
    int rc;
};

/* Adds text, escaped as by cli_put_text(). `color` is the parameter of SGR, such as "32"; NULL: no colour. */
void cli_row_add(struct cli_row *r, const char *color, const char *text);
/* Adds blanks up to column `to`. */
void cli_row_pad(struct cli_row *r, unsigned to);

/* Numbers for people: 1536 becomes "1.5 KiB", 2500 us "2.5 ms". They return `out`. */
#define CLI_HUMAN 24
char *cli_human_bytes(uint64_t n, char out[CLI_HUMAN]);
char *cli_human_us(uint64_t us, char out[CLI_HUMAN]);

/* ---- audit.c ---- */

/* A file whose lines must not be lost unnoticed. A line that cannot be written waits. When there is no room to wait,
 * lines are dropped, and a line with their number is written to the file. */
struct cli_audit {
    const char *path; /* NULL: none */
    struct io_loop *loop;
    int fd;
    dev_t dev; /* the file that is open */
    ino_t ino;
    struct io_timer again;
    struct ht_buf waiting; /* whole lines */
    size_t begun;          /* bytes of the first waiting line that are in the file already */
    uint64_t missing;      /* lines for which there was no room */
    uint64_t looked_ms;
    bool failing, lost_name; /* these problems were reported */
};

/* Opens the file for appending. `path` NULL: there is none. `path` must outlive *a. 0, or HT_EIO with *err. */
int cli_audit_open(struct cli_audit *a, struct io_loop *loop, const char *path, struct ht_errmsg *err) HT_MUST_USE;
/* Writes one whole line, with its newline. With `now` the line must be in the file at once: otherwise the result is
 * false, and the line is dropped. */
bool cli_audit_line(struct cli_audit *a, struct ht_slice line, bool now);
/* Opens the file again before the next line. Safe in signal handlers. */
void cli_audit_reopen(void);
/* Writes the rest if possible, and says how many lines are missing. Also for a zero-initialised one. */
void cli_audit_close(struct cli_audit *a);

/* ---- events.c ---- */

struct cli_live;

/* The file of --state-file. It exists while the link is up and all ports are bound. */
struct cli_state {
    const char *path; /* NULL: none */
    struct io_loop *loop;
    struct io_task task;   /* writes or removes the file at the end of a turn */
    bool there, was_there; /* the file was written and not removed; that was so at some time */
    dev_t dev;             /* the file that was written last, while `there` */
    ino_t ino;
};

/* What reports the events of a tunnel: as lines, as JSON, or in a block on a terminal. */
struct cli_events {
    struct ht_tunnel *tunnel; /* the caller sets it before the tunnel runs */
    struct cli_output out;
    bool json, color, qr;
    struct cli_live *live;       /* the block that replaces the lines (live.h); NULL: none */
    enum ht_log_level log_level; /* info: every request; warn: those that failed; error: none */
    const char *url_file;        /* NULL: none */
    struct cli_state state;      /* of --state-file */
    struct cli_audit audit;      /* of --audit */
    bool audit_query;            /* --audit-query: the queries of requests too */
    const char *token_file;      /* read again when the kit refuses the token; NULL: none */
    unsigned expected;           /* how many bindings there are in `binds` */
    const struct ht_bind_options *binds;
    bool by_name; /* a binding is reached by name alone, so the kit needs a proxy */
    unsigned n_bound;
    char (*urls)[2048]; /* by binding number - 1 */
    bool bind_failed, file_failed, was_lost, told_proxy;
    unsigned losses;            /* of the link, after which the tunnel tried again */
    bool default_url, no_token; /* the user has not named a kit; there is no token to show */
    const char *stored_url; /* the token is login's for this kit: read again when the kit refuses it; NULL: it is not */
    int ended;              /* how the tunnel has ended: 0 or a negative error */
};

/* Makes *e empty, for `expected` bindings. 0 or HT_ENOMEM. */
int cli_events_init(struct cli_events *e, struct io_loop *loop, unsigned expected) HT_MUST_USE;
extern const struct ht_tunnel_callbacks cli_event_callbacks; /* user: the cli_events */
/* Prints one more line among those of the events. It ends with a newline. */
void cli_events_line(struct cli_events *e, struct ht_slice line);
void cli_events_free(struct cli_events *e);

/* ---- files.c: files that a tunnel writes for scripts, and `ready`, which reads one ---- */

/* Writes the file of --url-file: one URL a line. If that fails, it complains and closes the tunnel. */
void cli_url_file_write(struct cli_events *e);
/* Writes a file under another name and renames it, so that nobody reads a part of it, and a symbolic link is replaced
 * and not followed. *st, unless it is NULL, describes the new file. 0, or -1 with errno. */
int cli_replace_file(const char *path, mode_t mode, const struct ht_buf *text, struct stat *st) HT_MUST_USE;

void cli_state_init(struct cli_events *e, struct io_loop *loop);
/* The link or a port has changed: the file of --state-file is written or removed at the end of this turn. If it cannot
 * be written, the tunnel is closed; but not if it could be written before. */
void cli_state_changed(struct cli_events *e);
/* The link is lost, or the tunnel has ended: removes the file now, unless another process has written its own there. */
void cli_state_gone(struct cli_events *e);

/* `ready --state-file`: prints one line, or with `json` the content of the file. Returns the exit status. */
int cli_state_ask(const char *path, bool json);

/* ---- tunnel.c ---- */

/* A tunnel that a command such as expose, pull, reach or up runs. The command fills in what its options say. */
struct cli_plan {
    struct ht_tunnel_options options; /* all but size and token; the values of headers are wiped once they are copied */
    struct ht_bind_options *binds;    /* all but size; with `sample` a single one without a target */
    size_t n_binds;
    struct ht_policy *policies; /* `binds` point to them; NULL: no binding has one */
    const char *token_file, *token, *url_file, *state_file, *audit; /* NULL: none */
    const char *inspect_secret;                                     /* names with commas between; NULL: none */
    char inspect[280];                                              /* --inspect, as options.inspect has it */
    const char *name; /* --name; NULL: the name that is stored for this machine */
    bool nameless;    /* no binding has a URL, so no name is needed */
    bool audit_query;
    bool json, sample, live, qr;
    bool set_url;                      /* the user has named the kit */
    bool stored_url, stored_token;     /* set by cli_plan_access(): the kit, or its token, comes from login */
    const char *url_from, *token_from; /* where they come from, for people; NULL: not given */
    enum opt_color color;
    enum ht_log_level log_level;
};

/* Takes --inspect. `at` NULL: it was not given. */
void cli_plan_inspect(struct cli_plan *p, const struct opt_addr *at);
/* Sets the retries by --retry-for. `given` false: retry for ever, but the first connection must succeed at once. */
void cli_plan_retry(struct ht_tunnel_options *o, bool given, uint64_t retry_for_ms);
/* ht_tunnel_options.replay_buffer for --replay-buffer. `given` false: as much as --max-window. */
uint32_t cli_replay_buffer(bool given, uint64_t bytes);
/* --forwarded, and the key of that name. `given` false: the library decides. */
enum ht_forwarded cli_forwarded(bool given, enum opt_forwarded forwarded);
/* Completes the plan by what login has stored. `token` and the result are those of cli_access(). */
int cli_plan_access(struct cli_plan *p, char token[WIRE_LIMIT_MAX_TOKEN + 1], struct ht_errmsg *err) HT_MUST_USE;
/* Makes the tunnel, whose events go to cli_event_callbacks with `user`. The caller destroys *t. 0, or an exit status
 * after a complaint. */
int cli_plan_create(struct cli_plan *p, struct ht_tunnel **t, void *user) HT_MUST_USE;
/* Makes the tunnel and runs it to its end. Returns the exit status. */
int cli_plan_run(struct cli_plan *p);

/* Runs the tunnel until it has ended. The first SIGINT or SIGTERM ends it in order. A second one, at least half a
 * second later, ends it without waiting for the kit's answer. A third one ends the process. Returns the last result of
 * ht_tunnel_run(). */
int cli_run_tunnel(struct ht_tunnel *t);
/* Installs the handlers for SIGINT, SIGTERM, and SIGHUP. At SIGHUP a driver without a link tries again at once. */
void cli_catch_signals(void);

/* ---- qr.c ---- */

/* Appends the lines of a QR code for the text. 0, HT_ELIMIT: the text is too long for one, or HT_ENOMEM. */
int cli_qr_put(struct ht_buf *b, const char *text, bool color) HT_MUST_USE;
/* The same as rows of digits, for the inspector's page (inspect_draw_qr). */
bool cli_qr_rows(const char *text, struct inspect_qr *out);

/* ---- sample.c ---- */

struct cli_sample;

/* Starts a small HTTP server with a sample page, on a loopback port that the kernel picks. NULL: *err says why. */
struct cli_sample *cli_sample_start(struct io_loop *loop, struct ht_errmsg *err) HT_MUST_USE;
uint16_t cli_sample_port(const struct cli_sample *s);
/* Closes the server and its connections. Clears the pointer. NULL is ignored. */
void cli_sample_stop(struct cli_sample **s);

/* ---- admin_client.c ---- */

/* A request to the admin API of a kit. */
struct cli_ask {
    const char *url, *ca, *token; /* ca and token may be NULL or "" */
    const char *pin;              /* fingerprint of the kit's certificate; NULL: none */
    const char *method;           /* NULL: GET */
    const char *resource;         /* a path below that of the API, such as "/health" */
    bool at_root;                 /* the path is below the root of the kit instead, such as "/readyz" */
    uint64_t timeout_ms;          /* for the whole answer; if quiet_ms is set, for its head */
    uint64_t quiet_ms;            /* for an answer without an end: the longest time without a byte; 0: not such one */
};

/* As web_request_start() and web_fetch(). Also HT_EINVAL: the kit's URL is wrong. */
int cli_request_start(struct web_request **request, struct io_loop *loop, const struct cli_ask *ask,
                      const struct web_request_ops *ops, void *ctx, struct ht_errmsg *err) HT_MUST_USE;
int cli_admin_ask(const struct cli_ask *ask, struct web_answer *answer, struct ht_errmsg *err) HT_MUST_USE;

/* ---- cmd_edge_api.c: the API of an edge on this machine ---- */

#define CLI_EDGE_UP_FOLDER "/var/lib/hoody-tunnel/edge"

struct cJSON;

struct cli_edge {
    const char *folder;   /* NULL: that of a server, or of this user */
    const char *if_match; /* the version to change, file:v<N>; NULL: the present one */
    bool json;
    bool quiet; /* says nothing of a refusal */
    uint64_t timeout_ms;
};

/* Writes the path of the API's socket. An enum opt_exit, after a complaint. `out` has PATH_MAX bytes. */
int cli_edge_socket(const char *folder, char *out);
/* Asks for a path below /api/v1, and complains unless it is answered well. An enum opt_exit; the caller frees *data,
 * which is the answer's `data`, or NULL. `body`, `version`: NULL for none. */
int cli_edge_ask(const struct cli_edge *e, const char *method, const char *path, const char *body, const char *version,
                 struct cJSON **data);
/* The same for a change: of e->if_match, or of the version that a GET of `document` shows. */
int cli_edge_change(const struct cli_edge *e, const char *method, const char *document, const char *path,
                    const char *body, struct cJSON **data);
/* Prints it as JSON. An enum opt_exit. */
int cli_edge_print_json(const struct cJSON *data);
/* Reads a file with JSON, or with "-" standard input, and ends it with a NUL. An exit status; what was wrong is said.
 * The caller frees *out in any case, which may hold secrets. */
int cli_edge_read_object(const char *file, struct ht_buf *out);

/* ---- table.c ---- */

/* A table with aligned columns. Its first row is the heading. */
struct cli_table {
    unsigned columns;
    size_t n;            /* cells so far */
    struct ht_buf cells; /* NUL-terminated texts one after another */
};

/* Adds a cell: rows are filled from left to right. 0 or HT_ENOMEM. */
int cli_table_cell(struct cli_table *t, const char *fmt, ...) HT_PRINTF(2, 3) HT_MUST_USE;
/* A whole row: as many cells as the table has columns. 0 or HT_ENOMEM. */
int cli_table_row(struct cli_table *t, const char *const *cells) HT_MUST_USE;
void cli_table_print(const struct cli_table *t, FILE *to);
void cli_table_free(struct cli_table *t);
/* Prints the table on standard output, and complains when that cannot be, or when `rc`, of filling it, is an error.
 * Frees it. An enum opt_exit. */
int cli_table_end(struct cli_table *t, int rc) HT_MUST_USE;

#endif
