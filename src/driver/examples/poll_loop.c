/*
 * A program with a loop of its own: the tunnel is one more descriptor in poll(). It works the same in epoll, libuv or
 * any other loop that can watch a descriptor.
 *
 *     poll_loop ws://127.0.0.1:50 3000     # a line on standard input tells how things stand, its end says goodbye
 */
#include <hoody_tunnel.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void on_bound(void *user, const struct ht_bound *b) {
    (void)user;
    printf("%s -> %s\n", b->url, b->target);
    fflush(stdout);
}

static void on_request(void *user, const struct ht_request *r) {
    unsigned *served = user;
    (void)r;
    ++*served;
}

/* What the program does beside the tunnel. Returns 0 at the end of its input. */
static int other_work(struct ht_tunnel *tunnel, unsigned served) {
    char line[256];
    if (read(STDIN_FILENO, line, sizeof line) <= 0)
        return 0;
    struct ht_tunnel_status s = {.size = sizeof s};
    ht_tunnel_get_status(tunnel, &s);
    printf("%u served, %u under way, %llu bytes out\n", served, s.streams, (unsigned long long)s.bytes_out);
    fflush(stdout);
    return 1;
}

static int loop(struct ht_tunnel *tunnel, const unsigned *served) {
    struct pollfd fds[] = {
        {.fd = ht_tunnel_fd(tunnel), .events = POLLIN},
        {.fd = STDIN_FILENO, .events = POLLIN},
    };
    int rc = HT_TUNNEL_OK;
    /* HT_TUNNEL_OK: it lives, or it has ended as we wanted it to; then no descriptor of ours is left to watch. */
    for (int closing = 0; rc == HT_TUNNEL_OK;) {
        struct ht_tunnel_status s = {.size = sizeof s};
        ht_tunnel_get_status(tunnel, &s);
        if (s.state == HT_TUNNEL_ENDED)
            break;
        if (poll(fds, closing ? 1 : 2, -1) < 0)
            continue; /* a signal */
        if (!closing && fds[1].revents && !other_work(tunnel, *served)) {
            ht_tunnel_close(tunnel);
            closing = 1;
        }
        rc = ht_tunnel_process(tunnel);
    }
    return rc;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: poll_loop URL TARGET\n");
        return 2;
    }
    unsigned served = 0;
    struct ht_tunnel *tunnel;
    struct ht_tunnel_options options = {
        .size = sizeof options,
        .url = argv[1],
        .token = getenv("HOODY_TUNNEL_TOKEN"),
    };
    struct ht_tunnel_callbacks calls = {.size = sizeof calls, .bound = on_bound, .request = on_request};
    struct ht_bind_options web = {.size = sizeof web, .kind = HT_EXPOSE_HTTP, .target = argv[2]};

    signal(SIGPIPE, SIG_IGN);
    int rc = ht_tunnel_create(&tunnel, &options, &calls, &served);
    if (rc == HT_TUNNEL_OK)
        rc = ht_tunnel_bind(tunnel, &web);
    if (rc > 0)
        rc = ht_tunnel_connect(tunnel);
    if (rc == HT_TUNNEL_OK)
        rc = loop(tunnel, &served);
    if (rc < 0)
        fprintf(stderr, "poll_loop: %s\n", *ht_tunnel_last_error() ? ht_tunnel_last_error() : ht_strerror(rc));
    ht_tunnel_destroy(&tunnel);
    return ht_exit_status(rc);
}
