/*
 * The simplest way: the tunnel runs its own loop until Ctrl-C.
 *
 *     own_loop ws://127.0.0.1:50 3000      # puts http://127.0.0.1:3000 onto a port of the container
 */
#define _POSIX_C_SOURCE 200809L /* sigaction(): a handler of signal() may serve for one signal only */

#include <hoody_tunnel.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static struct ht_tunnel *tunnel;

static void on_signal(int signo) {
    (void)signo;
    ht_tunnel_stop(tunnel); /* one of the two calls that a signal handler may make */
}

static void handle_signals(void (*handler)(int)) {
    struct sigaction act = {.sa_handler = handler};
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
}

static void on_bound(void *user, const struct ht_bound *b) {
    (void)user;
    printf("%s -> %s\n", b->url, b->target);
    fflush(stdout);
}

static void on_request(void *user, const struct ht_request *r) {
    (void)user;
    printf("%s %s: %d\n", r->method, r->target, r->status);
    fflush(stdout);
}

static void on_ended(void *user, int error, const char *text) {
    (void)user;
    if (error != HT_TUNNEL_OK)
        fprintf(stderr, "own_loop: %s\n", text);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: own_loop URL TARGET\n");
        return 2;
    }
    struct ht_tunnel_options options = {
        .size = sizeof options,
        .url = argv[1],
        .token = getenv("HOODY_TUNNEL_TOKEN"),
        .strict_bindings = 1, /* without its port there is nothing to run for */
    };
    struct ht_tunnel_callbacks calls = {
        .size = sizeof calls,
        .bound = on_bound,
        .ended = on_ended,
        .request = on_request,
    };
    struct ht_bind_options web = {.size = sizeof web, .kind = HT_EXPOSE_HTTP, .target = argv[2]};

    signal(SIGPIPE, SIG_IGN);
    int rc = ht_tunnel_create(&tunnel, &options, &calls, NULL);
    if (rc == HT_TUNNEL_OK) {
        handle_signals(on_signal);
        rc = ht_tunnel_bind(tunnel, &web); /* the binding's number */
    }
    if (rc > 0)
        rc = ht_tunnel_connect(tunnel);
    if (rc == HT_TUNNEL_OK) {
        while ((rc = ht_tunnel_run(tunnel)) == HT_TUNNEL_STOPPED)
            ht_tunnel_close(tunnel); /* Ctrl-C: say goodbye, so that the kit keeps nothing for us; again: be quick */
    }
    if (rc < 0 && *ht_tunnel_last_error()) /* a call that failed; what ended the tunnel was told */
        fprintf(stderr, "own_loop: %s\n", ht_tunnel_last_error());
    handle_signals(SIG_IGN); /* timeout(1) and terminals signal twice: there is nothing left to stop */
    ht_tunnel_destroy(&tunnel);
    return ht_exit_status(rc);
}
