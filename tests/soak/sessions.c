/*
 * Many sessions, one after another: sessions URL COUNT PARALLEL. Each binds a port or two and ends in one of the ways
 * in which sessions end: in order, dropped with its ports held, dropped before its ports were there. Prints how many
 * there were of each; the exit status is 0 when all of them got what they asked for.
 */
#include "driver/hoody_tunnel.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MOST 64
#define PATIENCE_S 60

enum end { END_IN_ORDER, END_DROPPED, END_EARLY, N_ENDS };

struct guest {
    struct ht_tunnel *tunnel;
    enum end end;
    unsigned to_bind;
    bool connected, closing, over;
    time_t began;
};

static struct guest guests[MOST];
static unsigned long count, begun, ended[N_ENDS];
static const char *url;
static bool failed;

static time_t now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec;
}

static void fail(const char *what, const char *text) {
    fprintf(stderr, "sessions: %s: %s\n", what, text);
    failed = true;
}

static void on_connected(void *user, const struct ht_connected *c) {
    (void)c;
    ((struct guest *)user)->connected = true;
}

static void on_bound(void *user, const struct ht_bound *b) {
    (void)b;
    ((struct guest *)user)->to_bind--;
}

static void on_bind_failed(void *user, const struct ht_bind_failure *f) {
    (void)user;
    fail(f->code, f->message);
}

static void on_ended(void *user, int error, const char *text) {
    ((struct guest *)user)->over = true;
    if (error != HT_TUNNEL_OK)
        fail("ended", text);
}

static void begin(struct guest *g) {
    static const struct ht_tunnel_callbacks calls = {
        .size = sizeof calls,
        .connected = on_connected,
        .bound = on_bound,
        .bind_failed = on_bind_failed,
        .ended = on_ended,
    };
    struct ht_tunnel_options options = {.size = sizeof options, .url = url, .retry_for_ms = HT_NO_RETRY};
    struct ht_bind_options web = {.size = sizeof web, .kind = HT_EXPOSE_HTTP, .target = "9"};
    struct ht_bind_options tcp = {.size = sizeof tcp, .kind = HT_PULL_TCP, .target = "9"};
    unsigned long n = begun++;
    options.connections = n % 5 ? 1 : 3;
    *g = (struct guest){.end = n % 8 < 5   ? END_IN_ORDER
                               : n % 8 < 7 ? END_DROPPED
                                           : END_EARLY,
                        .to_bind = 1,
                        .began = now()};
    if (ht_tunnel_create(&g->tunnel, &options, &calls, g) != HT_TUNNEL_OK) {
        fail("create", ht_tunnel_last_error());
        return;
    }
    bool both = n % 3 == 0;
    g->to_bind += both;
    if (ht_tunnel_bind(g->tunnel, n % 2 ? &web : &tcp) < 0 ||
        (both && ht_tunnel_bind(g->tunnel, n % 2 ? &tcp : &web) < 0) || ht_tunnel_connect(g->tunnel) != HT_TUNNEL_OK)
        fail("start", ht_tunnel_last_error());
}

/* One look at a session; true when it is over. */
static bool look(struct guest *g) {
    (void)ht_tunnel_turn(g->tunnel, 0);
    if (g->end == END_IN_ORDER && g->to_bind == 0 && !g->closing) {
        g->closing = true;
        (void)ht_tunnel_close(g->tunnel);
    }
    if (now() - g->began > PATIENCE_S)
        fail("session", "stands still");
    return failed || g->over || (g->end == END_DROPPED && g->to_bind == 0) || (g->end == END_EARLY && g->connected);
}

int main(int argc, char **argv) {
    unsigned long parallel = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
    if (parallel == 0 || parallel > MOST) {
        fprintf(stderr, "usage: sessions URL COUNT PARALLEL (1 to %d)\n", MOST);
        return 2;
    }
    url = argv[1];
    count = strtoul(argv[2], NULL, 10);
    signal(SIGPIPE, SIG_IGN);
    for (unsigned long live = 1; live > 0 && !failed;) {
        struct pollfd p[MOST];
        live = 0;
        for (unsigned long i = 0; i < parallel && !failed; i++) {
            struct guest *g = &guests[i];
            if (!g->tunnel && begun < count)
                begin(g);
            if (g->tunnel && look(g)) {
                ended[g->end]++;
                ht_tunnel_destroy(&g->tunnel);
            }
            p[i] = (struct pollfd){.fd = g->tunnel ? ht_tunnel_fd(g->tunnel) : -1, .events = POLLIN};
            live += g->tunnel != NULL || begun < count;
        }
        if (live)
            (void)poll(p, parallel, 100);
    }
    for (unsigned long i = 0; i < parallel; i++)
        ht_tunnel_destroy(&guests[i].tunnel);
    printf("%lu in order, %lu dropped, %lu dropped early\n", ended[END_IN_ORDER], ended[END_DROPPED], ended[END_EARLY]);
    return failed ? 1 : 0;
}
