/* ws_echo [host:port]: serves until SIGTERM or SIGINT; prints the port it listens on. A service for other tests. */
#include "echo.h"

#include <signal.h>
#include <stdio.h>

static struct io_loop *loop;

static void on_signal(struct io_signal *s, int signo) {
    (void)s;
    (void)signo;
    io_loop_break(loop);
}

int main(int argc, char **argv) {
    struct echo_server server;
    struct io_addr addr;
    struct ht_errmsg err;
    struct io_signal term, intr;
    io_ignore_sigpipe();
    loop = io_loop_create();
    if (!loop || io_addr_parse_hostport(&addr, argc > 1 ? argv[1] : "127.0.0.1:0", &err) != HT_OK ||
        echo_start(&server, loop, &addr, &err) != HT_OK) {
        fprintf(stderr, "ws_echo: %s\n", loop ? err.text : "no event loop");
        return 1;
    }
    io_signal_start(loop, &term, SIGTERM, on_signal);
    io_signal_start(loop, &intr, SIGINT, on_signal);
    io_listener_local(server.listener, &addr);
    printf("%u\n", (unsigned)io_addr_port(&addr));
    fflush(stdout);
    io_loop_run(loop);
    echo_stop(&server);
    io_signal_stop(&term);
    io_signal_stop(&intr);
    io_loop_destroy(&loop);
    return 0;
}
