/*
 * The live view: a block on the terminal with the state of a tunnel. It shows the link, its latency, the bindings,
 * streams, bytes a second and the last requests. cli_live_frame() builds the block and is pure. The other functions
 * keep the view up to date.
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
    char url[LIVE_URL], also[LIVE_URL]; /* `also`: the other URLs, a space between two */
    char target[LIVE_TEXT], name[64];
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
    char inspector[LIVE_TEXT];                                             /* the URL of its page; "": there is none */
    char kit[LIVE_URL], session[64], server[64], user[64], why[LIVE_TEXT]; /* "": not told */
    struct live_binding *bindings;                                         /* n of them */
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
 * Appends the rows of the block for a terminal of that size. They take at least one line and at most rows - 1 lines.
 * The URL of a binding is shown whole or not at all; f->folded counts the bindings without a URL. 0 or HT_ENOMEM.
 */
int cli_live_frame(const struct cli_live *l, unsigned columns, unsigned rows, struct cli_frame *f) HT_MUST_USE;
/* True when a binding has no room in the block, or would have none with more requests to show. */
bool cli_live_folds(const struct cli_live *l);

#define CLI_LIVE_MEASURE_MS 5000 /* how often the latency is measured: for ht_tunnel_options.measure_every_ms */

/* Makes a view. At first each binding shows what is asked for. NULL: out of memory. */
struct cli_live *cli_live_create(const char *kit, const struct ht_bind_options *binds, size_t n,
                                 bool color) HT_MUST_USE;
/* Starts to draw, instead of the lines of `e`. cli_complain() removes the block before it writes. Only one view can be
 * attached at a time. */
void cli_live_attach(struct cli_live *l, struct cli_events *e, struct ht_tunnel *t, struct io_loop *loop);
/* Draws for the last time and restores the terminal. NULL, and a view that is not attached, are ignored. */
void cli_live_detach(struct cli_live *l);
/* Clears the pointer. NULL is ignored. */
void cli_live_destroy(struct cli_live **l);

/* Something has changed: the view is drawn a little later, together with further changes. */
void cli_live_touch(struct cli_live *l);
/* Counts a decision about a request. */
void cli_live_decided(struct cli_live *l, const struct ht_audit *a);
/* Shows a request that has ended. */
void cli_live_request(struct cli_live *l, const struct ht_request *r);

#endif
