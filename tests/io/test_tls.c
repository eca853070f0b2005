/* TLS on the way out, against `openssl s_server` with a throwaway authority. */
#include "net_support.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

static char dir[] = P_tmpdir "/ht-tls-XXXXXX";

static bool run(const char *fmt, ...) {
    char cmd[2000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof cmd, fmt, ap);
    va_end(ap);
    return system(cmd) == 0;
}

static bool make_certificates(void) {
    return mkdtemp(dir) &&
           run("cd %s && "
               "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days "
               "2 "
               "-subj '/CN=Test CA' 2>/dev/null && "
               "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout srv.key -out srv.csr "
               "-subj '/CN=localhost' 2>/dev/null && "
               "printf 'subjectAltName=DNS:localhost,IP:127.0.0.1' >ext && "
               "openssl x509 -req -in srv.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext "
               "-out srv.pem 2>/dev/null && "
               "printf 'subjectAltName=DNS:elsewhere.example' >ext2 && "
               "openssl x509 -req -in srv.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext2 "
               "-out other.pem 2>/dev/null",
               dir);
}

struct server {
    pid_t pid;
    int in, out; /* its standard input and output */
    uint16_t port;
};

/* Starts one and waits for its ACCEPT line. */
static bool server_start(struct server *s, const char *cert, const char *mode) {
    int in[2], out[2];
    char a[100], b[100];
    snprintf(a, sizeof a, "%s/%s", dir, cert);
    snprintf(b, sizeof b, "%s/srv.key", dir);
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        return false;
    s->pid = fork();
    if (s->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 2);
        signal(SIGPIPE, SIG_DFL);
        execlp("openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", a, "-key", b, "-naccept", "1", mode,
               (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    s->in = in[1];
    s->out = out[0];
    char line[2000];
    size_t n = 0;
    while (n < sizeof line - 1 && poll(&(struct pollfd){.fd = s->out, .events = POLLIN}, 1, 5000) == 1) {
        ssize_t k = read(s->out, line + n, sizeof line - 1 - n);
        if (k <= 0)
            return false;
        n += (size_t)k;
        line[n] = '\0';
        char *at = strstr(line, "ACCEPT ");
        if (at && strchr(at, '\n')) {
            s->port = (uint16_t)atoi(strrchr(at, ':') + 1);
            return s->port != 0;
        }
    }
    return false;
}

static void server_stop(struct server *s) {
    close(s->in);
    close(s->out);
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
}

static struct io_tls *authority(void) {
    char ca[100];
    struct ht_errmsg e;
    snprintf(ca, sizeof ca, "%s/ca.pem", dir);
    return io_tls_create(ca, &e);
}

static void dial(struct dialled *d, struct io_tls *tls, const char *host, uint16_t port) {
    struct ht_errmsg e;
    *d = (struct dialled){0};
    CU_ASSERT_FATAL(io_dial_start(loop, host, port, tls, 5000, &dial_ops, d, &e) != NULL);
    CU_ASSERT(turn_until(&d->done, PATIENCE_MS));
}

static void a_page_comes_through(void) {
    static const char *const hosts[] = {"localhost", "127.0.0.1"};
    for (int i = 0; i < 2; i++) {
        struct server s;
        struct dialled d;
        struct io_tls *tls = authority();
        CU_ASSERT_FATAL(tls != NULL && server_start(&s, "srv.pem", "-www"));
        dial(&d, tls, hosts[i], s.port);
        io_tls_destroy(&tls); /* the connection does not need it */
        CU_ASSERT_EQUAL(d.err, HT_OK);
        CU_ASSERT_STRING_EQUAL(d.text, "");
        if (d.side.c) {
            static const char get[] = "GET / HTTP/1.0\r\n\r\n";
            CU_ASSERT_EQUAL(side_write(&d.side, get, sizeof get - 1), sizeof get - 1);
            d.side.cap = 7; /* most of a record stays in TLS: it must make readable fire again */
            CU_ASSERT(turn_until(&d.side.ended, PATIENCE_MS));
            CU_ASSERT_EQUAL(d.side.err, HT_EOF);
            CU_ASSERT(d.side.got > 1000);
            io_conn_close(&d.side.c);
        }
        server_stop(&s);
    }
}

static void much_goes_both_ways(void) {
    struct server s;
    struct dialled d;
    struct io_tls *tls = authority();
    /* -rev answers each line backwards. */
    CU_ASSERT_FATAL(tls != NULL && server_start(&s, "srv.pem", "-rev"));
    dial(&d, tls, "localhost", s.port);
    CU_ASSERT_FATAL(d.side.c != NULL);
    enum { TOTAL = 3000000 };
    static char line[16000];
    memset(line, 'x', sizeof line);
    for (size_t i = 999; i < sizeof line; i += 1000)
        line[i] = '\n';
    size_t sent = 0;
    uint64_t stop = ht_now_ms() + 20000;
    bool peer_behind = false;
    while (d.side.got < TOTAL && !d.side.ended && ht_now_ms() < stop) {
        size_t at = sent % sizeof line;
        if (sent < TOTAL && !peer_behind) {
            ssize_t n = side_write(&d.side, line + at, ht_min(sizeof line - at, TOTAL - sent));
            if (n == HT_EAGAIN)
                io_conn_want_write(d.side.c, peer_behind = true);
            else if (n < 0)
                break;
            else
                sent += (size_t)n;
        }
        int w = d.side.writable;
        io_loop_turn(loop, peer_behind || sent == TOTAL);
        peer_behind = peer_behind && d.side.writable == w;
    }
    CU_ASSERT_EQUAL(sent, TOTAL);
    CU_ASSERT_EQUAL(d.side.got, TOTAL);
    CU_ASSERT_EQUAL(io_conn_shutdown(d.side.c), HT_OK);
    io_conn_close(&d.side.c);
    io_tls_destroy(&tls);
    server_stop(&s);
}

static void a_cut_is_no_clean_end(void) {
    struct server s;
    struct dialled d;
    struct io_tls *tls = authority();
    CU_ASSERT_FATAL(tls != NULL && server_start(&s, "srv.pem", "-rev"));
    dial(&d, tls, "localhost", s.port);
    CU_ASSERT_FATAL(d.side.c != NULL);
    server_stop(&s); /* killed: a FIN without close_notify */
    CU_ASSERT(turn_until(&d.side.ended, PATIENCE_MS));
    CU_ASSERT_EQUAL(d.side.err, HT_ERESET);
    io_conn_close(&d.side.c);
    io_tls_destroy(&tls);
}

static void bad_certificates_are_explained(void) {
    struct server s;
    struct dialled d;
    struct ht_errmsg e;
    char want[100];
    struct io_tls *tls = authority();
    CU_ASSERT_FATAL(server_start(&s, "other.pem", "-www"));
    dial(&d, tls, "localhost", s.port);
    CU_ASSERT_EQUAL(d.err, HT_ETLS);
    snprintf(want, sizeof want, "certificate of localhost:%u is for another name", s.port);
    CU_ASSERT(strstr(d.text, want) == d.text);
    server_stop(&s);
    CU_ASSERT_FATAL(server_start(&s, "other.pem", "-www"));
    dial(&d, tls, "127.0.0.1", s.port);
    CU_ASSERT_EQUAL(d.err, HT_ETLS);
    CU_ASSERT(strstr(d.text, "is for another name") != NULL);
    server_stop(&s);
    io_tls_destroy(&tls);
    tls = io_tls_create(NULL, &e); /* the system's store does not know our authority */
    CU_ASSERT_FATAL(tls != NULL && server_start(&s, "srv.pem", "-www"));
    dial(&d, tls, "localhost", s.port);
    CU_ASSERT_EQUAL(d.err, HT_ETLS);
    snprintf(want, sizeof want, "certificate of localhost:%u is not trusted: ", s.port);
    CU_ASSERT(strstr(d.text, want) == d.text && strstr(d.text, "; give its CA with --ca"));
    server_stop(&s);
    io_tls_destroy(&tls);
    CU_ASSERT_PTR_NULL(io_tls_create("/nonexistent/ca.pem", &e));
    CU_ASSERT(strstr(e.text, "/nonexistent/ca.pem") != NULL);
    ht_mem_fail_at(0);
    CU_ASSERT_PTR_NULL(io_tls_create(NULL, &e));
    ht_mem_fail_at(-1);
}

struct plain {
    int kind;
    struct io_conn *silent;
};

static void plain_accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    (void)peer;
    struct plain *p = ctx;
    static char text[] = "SSH-2.0-nothing\r\n";
    if (p->kind == 0)
        CU_ASSERT(io_conn_write(c, &(struct iovec){text, sizeof text - 1}, 1) > 0);
    if (p->kind < 2)
        io_conn_close(&c);
    else
        p->silent = c;
}

static void servers_without_tls_are_explained(void) {
    static const struct io_listener_ops ops = {plain_accepted, NULL};
    struct io_addr a;
    struct ht_errmsg e;
    struct io_tls *tls = authority();
    for (int kind = 0; kind < 3; kind++) {
        struct plain p = {.kind = kind};
        struct io_listener *l;
        struct dialled d = {0};
        CU_ASSERT_EQUAL(io_addr_parse(&a, "127.0.0.1", 0), HT_OK);
        CU_ASSERT_FATAL(io_listen(loop, &a, &ops, &p, &l, &e) == HT_OK);
        io_listener_local(l, &a);
        CU_ASSERT(io_dial_start(loop, "localhost", io_addr_port(&a), tls, kind == 2 ? 100 : 3000, &dial_ops, &d, &e) !=
                  NULL);
        CU_ASSERT(turn_until(&d.done, PATIENCE_MS));
        CU_ASSERT(kind == 2 ? d.err == HT_ETIMEDOUT : d.err != HT_OK);
        CU_ASSERT(strstr(d.text, "localhost:") != NULL);
        io_conn_close(&p.silent);
        io_listener_close(&l);
    }
    io_tls_destroy(&tls);
}

int main(void) {
    alarm(120);
    io_ignore_sigpipe();
    if (!make_certificates()) {
        printf("Bail out! no certificates: is the openssl command installed?\n");
        return 1;
    }
    loop = io_loop_create();
    int fds = io_count_fds();
    static const struct tap_test tests[] = {
        {"a page comes through", a_page_comes_through},
        {"much goes both ways", much_goes_both_ways},
        {"a cut is no clean end", a_cut_is_no_clean_end},
        {"bad certificates are explained", bad_certificates_are_explained},
        {"servers without TLS are explained", servers_without_tls_are_explained},
        {NULL, NULL},
    };
    int rc = tap_main("io tls", tests);
    turns(2);
    if (io_count_fds() != fds) {
        printf("Bail out! %d descriptors left\n", io_count_fds() - fds);
        rc = 1;
    }
    io_loop_destroy(&loop);
    if (!run("rm -r %s", dir) || ht_mem_live() != 0)
        rc = 1;
    return rc;
}
