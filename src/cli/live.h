/*
 * What the block on a terminal shows of a tunnel: the link, its latency, the bindings, streams and bytes a second, the
 * last requests. Building the block is pure (cli_live_frame); the rest keeps it up to date.
 */
#ifndef HT_CLI_LIVE_H
#define HT_CLI_LIVE_H

#include "cli/screen.h"

#define LIVE_REQUESTS 8
#define LIVE_TEXT 256
#define LIVE_URL 2048

enum live_binding_state { LIVE_ASKED, LIVE_BOUND, LIVE_GONE };

struct live_binding {
    enum live_binding_state state;
    bool pull;
    char url[LIVE_URL], target[LIVE_TEXT], name[64];
    char why[LIVE_TEXT]; /* LIVE_GONE */
    bool insecure;
};

struct live_request {
    char when[12], status[8], error[LIVE_TEXT], text[LIVE_TEXT], size[CLI_HUMAN], took[CLI_HUMAN];
    bool failed;
};

struct cli_live {
    struct cli_screen screen;
    struct ht_tunnel *tunnel;
    struct ht_tunnel_status status;
    char kit[LIVE_URL], session[64], server[64], why[LIVE_TEXT];
    struct live_binding *bindings; /* n of them */
    unsigned n_bindings;
    struct live_request requests[LIVE_REQUESTS]; /* a ring */
    unsigned n_requests;                         /* of all times */
    uint64_t n_allowed, n_refused;               /* of those that are checked */
    double rate_in, rate_out;                    /* bytes a second */
    uint64_t sampled_at, sampled_in, sampled_out;
    struct io_loop *loop;
    struct io_timer tick;
    struct io_signal resize, stop, resume;
    bool color, soon;
};

/*
 * Appends the block's rows for a terminal of that size; together they take at least one line and at most rows - 1. A
 * URL of a binding is whole or not there: f->folded counts the bindings that are not. 0 or HT_ENOMEM.
 */
int cli_live_frame(const struct cli_live *l, unsigned columns, unsigned rows, struct cli_frame *f) HT_MUST_USE;
/* Whether some binding finds no room in the block now, or with some more requests to show. */
bool cli_live_folds(const struct cli_live *l);

#define CLI_LIVE_MEASURE_MS 5000 /* how often its latency is new: for ht_tunnel_options */

/* NULL: out of memory. Until it is told more, each binding shows what is asked for. */
struct cli_live *cli_live_create(const char *kit, const struct ht_bind_options *binds, size_t n,
                                 bool color) HT_MUST_USE;
/* Takes the place of the events' lines and begins to draw; complaints make room for themselves. One at a time. */
void cli_live_attach(struct cli_live *l, struct cli_events *e, struct ht_tunnel *t, struct io_loop *loop);
/* Draws for the last time, and gives the terminal back. NULL, and what is not attached, is ignored. */
void cli_live_detach(struct cli_live *l);
void cli_live_destroy(struct cli_live **l);

/* Something has changed: it is drawn a little later, together with what else changes until then. */
void cli_live_touch(struct cli_live *l);
/* What was decided about a request is counted. */
void cli_live_decided(struct cli_live *l, const struct ht_audit *a);
/* A request that is over. */
void cli_live_request(struct cli_live *l, const struct ht_request *r);

#endif
