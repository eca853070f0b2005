/*
 * The tunnel in a thread of its own, while the program does what it likes: here it reads targets from standard input
 * and puts each onto a port of the container. The end of the input says goodbye.
 *
 *     echo 3000 | thread ws://127.0.0.1:50
 */
#include <hoody_tunnel.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Callbacks come in the tunnel's thread. */
static void on_bound(void *user, const struct ht_bound *b) {
    (void)user;
    printf("%s -> %s\n", b->url, b->target);
    fflush(stdout);
}

static void on_ended(void *user, int error, const char *text) {
    (void)user;
    if (error != HT_TUNNEL_OK)
        fprintf(stderr, "thread: %s\n", text);
}

/* These calls come from the main thread, and are carried out in the tunnel's. */
static void expose(struct ht_tunnel *tunnel, const char *target) {
    struct ht_bind_options web = {.size = sizeof web, .kind = HT_EXPOSE_HTTP, .target = target};
    if (ht_tunnel_bind(tunnel, &web) < 0)
        fprintf(stderr, "%s: %s\n", target, ht_tunnel_last_error());
}

static void tell(struct ht_tunnel *tunnel) {
    struct ht_tunnel_status s = {.size = sizeof s};
    ht_tunnel_get_status(tunnel, &s);
    printf("%u bindings, %llu requests so far\n", s.bindings, (unsigned long long)s.streams_total);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: thread URL\n");
        return 2;
    }
    struct ht_tunnel *tunnel;
    struct ht_tunnel_options options = {
        .size = sizeof options,
        .url = argv[1],
        .token = getenv("HOODY_TUNNEL_TOKEN"),
    };
    struct ht_tunnel_callbacks calls = {.size = sizeof calls, .bound = on_bound, .ended = on_ended};

    signal(SIGPIPE, SIG_IGN);
    int rc = ht_tunnel_create(&tunnel, &options, &calls, NULL);
    if (rc == HT_TUNNEL_OK)
        rc = ht_tunnel_start(tunnel);
    if (rc == HT_TUNNEL_OK)
        rc = ht_tunnel_connect(tunnel);
    if (rc != HT_TUNNEL_OK) {
        fprintf(stderr, "thread: %s\n", ht_tunnel_last_error());
    } else {
        char line[256];
        while (fgets(line, sizeof line, stdin)) {
            line[strcspn(line, "\n")] = '\0';
            if (*line)
                expose(tunnel, line);
            else
                tell(tunnel);
        }
        ht_tunnel_close(tunnel);
        rc = ht_tunnel_join(tunnel);
    }
    ht_tunnel_destroy(&tunnel);
    return ht_exit_status(rc);
}
