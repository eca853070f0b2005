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
               "-out other.pem 2>/dev/null && "
               "openssl x509 -req -in srv.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days -1 -extfile ext "
               "-out old.pem 2>/dev/null && "
               "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout me.key -out me.csr "
               "-subj '/CN=me' 2>/dev/null && "
               "openssl x509 -req -in me.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out me.pem "
               "2>/dev/null && cat me.pem me.key >both.pem && "
               "openssl ec -in me.key -aes128 -passout pass:x -out locked.key 2>/dev/null",
               dir);
}

struct server {
    pid_t pid;
    int in, out; /* its standard input and output */
    uint16_t port;
};

/* Starts one and waits for its ACCEPT line. `verify`: the client must show a certificate. */
static bool server_begin(struct server *s, const char *cert, const char *mode, bool verify, const char *alpn) {
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
        char cmd[600];
        snprintf(cmd, sizeof cmd, "exec openssl s_server -accept 127.0.0.1:0 -cert %s -key %s -naccept 1 %s%s%s%s%s%s",
                 a, b, mode, verify ? " -Verify 1 -verify_return_error -CAfile " : "", verify ? dir : "",
                 verify ? "/ca.pem" : "", alpn ? " -alpn " : "", alpn ? alpn : "");
        execl("/bin/sh", "sh", "-c", cmd, (char *)NULL);
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

static bool server_start(struct server *s, const char *cert, const char *mode) {
    return server_begin(s, cert, mode, false, NULL);
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

/* What it said before, and the cut, are taken from the socket in one call. */
static void a_cut_behind_bytes_is_no_clean_end(void) {
    struct server s;
    struct dialled d;
    struct io_tls *tls = authority();
    CU_ASSERT_FATAL(tls != NULL && server_start(&s, "srv.pem", "-rev"));
    dial(&d, tls, "localhost", s.port);
    CU_ASSERT_FATAL(d.side.c != NULL);
    CU_ASSERT_EQUAL(side_write(&d.side, "abc\n", 4), 4);
    while (d.side.reads == 0 || !d.side.got) /* tickets, and the line */
        io_loop_turn(loop, true);
    CU_ASSERT_EQUAL(side_write(&d.side, "def\n", 4), 4);
    CU_ASSERT_EQUAL(poll(&(struct pollfd){.fd = io_conn_fd(d.side.c), .events = POLLIN}, 1, 5000), 1);
    server_stop(&s);
    CU_ASSERT_EQUAL(poll(&(struct pollfd){.fd = io_conn_fd(d.side.c), .events = POLLRDHUP}, 1, 5000), 1);
    CU_ASSERT(turn_until(&d.side.ended, PATIENCE_MS));
    CU_ASSERT_EQUAL(d.side.got, 8);
    CU_ASSERT_EQUAL(d.side.err, HT_ERESET);
    char more[8];
    CU_ASSERT_EQUAL(io_conn_read(d.side.c, more, sizeof more), HT_ERESET);
    io_conn_close(&d.side.c);
    io_tls_destroy(&tls);
}

/* The peer reads nothing until its socket is full: the last word has no room, and the FIN waits for it. */
static void the_last_word_waits_for_room(void) {
    struct server s;
    struct dialled d;
    struct io_tls *tls = authority();
    CU_ASSERT_FATAL(tls != NULL && server_start(&s, "srv.pem", ""));
    dial(&d, tls, "localhost", s.port);
    CU_ASSERT_FATAL(d.side.c != NULL);
    kill(s.pid, SIGSTOP);
    CU_ASSERT_EQUAL(waitpid(s.pid, NULL, WUNTRACED), s.pid); /* it stands */
    static char block[16384];
    while (poll(&(struct pollfd){.fd = s.out, .events = POLLIN}, 1, 0) == 1) /* what it said of the handshake */
        CU_ASSERT_FATAL(read(s.out, block, sizeof block) > 0);
    memset(block, 'x', sizeof block);
    int rc = HT_OK, fd = io_conn_fd(d.side.c);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){4096}, sizeof(int));
    for (ssize_t n = 1; n > 0;) /* a record of one byte, until not even that has room */
        while ((n = side_write(&d.side, block, n > 1 ? sizeof block : 1)) > 1)
            ;
    rc = io_conn_shutdown(d.side.c);
    CU_ASSERT_EQUAL(rc, HT_EAGAIN);
    CU_ASSERT_EQUAL(poll(&(struct pollfd){.fd = s.out, .events = POLLIN}, 1, 0), 0);
    kill(s.pid, SIGCONT);
    size_t got = 0;
    bool over = false;
    for (unsigned i = 0; i < 20000 && !over; i++) { /* what comes out is read, so that it goes on */
        char text[65536];
        if (poll(&(struct pollfd){.fd = s.out, .events = POLLIN}, 1, 1) == 1) {
            ssize_t n = read(s.out, text, sizeof text);
            over = n <= 0;
            got += n > 0 ? (size_t)n : 0;
        }
        if (rc == HT_EAGAIN)
            rc = io_conn_shutdown(d.side.c);
    }
    CU_ASSERT_EQUAL(rc, HT_OK);
    CU_ASSERT(over && got > 0);
    io_conn_close(&d.side.c);
    io_tls_destroy(&tls);
    server_stop(&s);
}

static void bad_certificates_are_explained(void) {
    struct server s;
    struct dialled d;
    struct ht_errmsg e;
    char want[100];
    struct io_tls *tls = authority();
    CU_ASSERT_FATAL(server_start(&s, "other.pem", "-www"));
    dial(&d, tls, "localhost", s.port);
    CU_ASSERT_EQUAL(d.err, HT_ECERTNAME);
    snprintf(want, sizeof want, "the certificate of localhost:%u is for another name", s.port);
    CU_ASSERT(strstr(d.text, want) == d.text);
    server_stop(&s);
    CU_ASSERT_FATAL(server_start(&s, "other.pem", "-www"));
    dial(&d, tls, "127.0.0.1", s.port);
    CU_ASSERT_EQUAL(d.err, HT_ECERTNAME);
    CU_ASSERT(strstr(d.text, "is for another name") != NULL);
    server_stop(&s);
    CU_ASSERT_FATAL(server_start(&s, "old.pem", "-www"));
    dial(&d, tls, "localhost", s.port);
    CU_ASSERT_EQUAL(d.err, HT_ECERTDATE);
    CU_ASSERT(strstr(d.text, "certificate has expired; this machine's clock says ") != NULL);
    server_stop(&s);
    io_tls_destroy(&tls);
    tls = io_tls_create(NULL, &e); /* the system's store does not know our authority */
    CU_ASSERT_FATAL(tls != NULL && server_start(&s, "srv.pem", "-www"));
    dial(&d, tls, "localhost", s.port);
    CU_ASSERT_EQUAL(d.err, HT_ECERTCA);
    snprintf(want, sizeof want, "the certificate of localhost:%u is not trusted: ", s.port);
    CU_ASSERT(strstr(d.text, want) == d.text && strstr(d.text, "; give its CA with --ca"));
    server_stop(&s);
    io_tls_destroy(&tls);
    CU_ASSERT_PTR_NULL(io_tls_create("/nonexistent/ca.pem", &e));
    CU_ASSERT(strstr(e.text, "/nonexistent/ca.pem") != NULL);
    ht_mem_fail_at(0);
    CU_ASSERT_PTR_NULL(io_tls_create(NULL, &e));
    ht_mem_fail_at(-1);
}

static struct io_tls *with(const char *ca, const char *cert, const char *key, const char *alpn, bool insecure,
                           struct ht_errmsg *e) {
    char paths[3][100];
    const char *const names[] = {ca, cert, key};
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++)
        snprintf(paths[i], sizeof paths[i], "%s/%s", dir, names[i] ? names[i] : "");
    return io_tls_create_with(&(struct io_tls_config){.ca_file = ca ? paths[0] : NULL,
                                                      .cert_file = cert ? paths[1] : NULL,
                                                      .key_file = key ? paths[2] : NULL,
                                                      .alpn = alpn,
                                                      .insecure = insecure},
                              e);
}

static void any_certificate_is_taken_if_that_is_wanted(void) {
    static const char *const certs[] = {"srv.pem", "other.pem", "old.pem"};
    struct ht_errmsg e;
    struct io_tls *tls = with(NULL, NULL, NULL, NULL, true, &e);
    CU_ASSERT_PTR_NOT_NULL_FATAL(tls);
    for (size_t i = 0; i < HT_ARRAY_LEN(certs); i++) {
        struct server s;
        struct dialled d;
        CU_ASSERT_FATAL(server_start(&s, certs[i], "-www"));
        dial(&d, tls, "localhost", s.port);
        CU_ASSERT_EQUAL(d.err, HT_OK);
        io_conn_close(&d.side.c);
        server_stop(&s);
    }
    io_tls_destroy(&tls);
}

/* A server that wants a certificate says so only when the handshake is over for us (TLS 1.3). */
static void our_own_certificate(void) {
    struct server s;
    struct dialled d;
    struct ht_errmsg e;
    for (int with_key = 0; with_key < 2; with_key++) {
        struct io_tls *tls =
            with("ca.pem", with_key ? "me.pem" : "both.pem", with_key ? "me.key" : NULL, NULL, false, &e);
        CU_ASSERT_PTR_NOT_NULL_FATAL(tls);
        CU_ASSERT_FATAL(server_begin(&s, "srv.pem", "-rev", true, NULL));
        dial(&d, tls, "localhost", s.port);
        CU_ASSERT_FATAL(d.side.c != NULL);
        CU_ASSERT_EQUAL(side_write(&d.side, "abc\n", 4), 4);
        while (!d.side.got && !d.side.ended)
            io_loop_turn(loop, true);
        CU_ASSERT_EQUAL(d.side.got, 4);
        io_conn_close(&d.side.c);
        server_stop(&s);
        io_tls_destroy(&tls);
    }
    struct io_tls *tls = authority();
    CU_ASSERT_FATAL(server_begin(&s, "srv.pem", "-rev", true, NULL));
    dial(&d, tls, "localhost", s.port);
    CU_ASSERT_FATAL(d.side.c != NULL);
    CU_ASSERT(turn_until(&d.side.ended, PATIENCE_MS));
    CU_ASSERT_EQUAL(d.side.err, HT_ETLS);
    CU_ASSERT_PTR_NOT_NULL(strstr(io_conn_error_text(d.side.c, d.side.err), "certificate required"));
    CU_ASSERT_STRING_EQUAL(io_conn_error_text(d.side.c, HT_ERESET), ht_err_text(HT_ERESET));
    io_conn_close(&d.side.c);
    server_stop(&s);
    io_tls_destroy(&tls);
}

static void certificates_that_are_none_are_explained(void) {
    static const struct {
        const char *cert, *key, *says;
    } rows[] = {
        {"none.pem", NULL, "cannot read the certificate in "},
        {"me.key", NULL, "cannot read the certificate in "},
        {"me.pem", NULL, "cannot read the private key in "},
        {"me.pem", "none.key", "cannot read the private key in "},
        {"me.pem", "srv.key", "is not the one of the certificate in "},
        {"me.pem", "locked.key", "is encrypted; give one without a password"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_errmsg e = {""};
        CU_ASSERT_PTR_NULL(with(NULL, rows[i].cert, rows[i].key, NULL, false, &e));
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, rows[i].says));
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, rows[i].key ? rows[i].key : rows[i].cert));
    }
}

/* s_server writes down what was offered and agreed on. */
static void alpn_is_named_when_it_is_wanted(void) {
    static const struct {
        const char *ours, *theirs;
        bool named, agreed;
    } rows[] = {
        {"http/1.1", "h2,http/1.1", true, true},
        {NULL, "h2,http/1.1", false, false},
        {"http/1.1", NULL, false, false}, /* s_server says nothing when it was not asked to */
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct server s;
        struct dialled d;
        struct ht_errmsg e;
        struct io_tls *tls = with("ca.pem", NULL, NULL, rows[i].ours, false, &e);
        CU_ASSERT_FATAL(tls != NULL && server_begin(&s, "srv.pem", "", false, rows[i].theirs));
        dial(&d, tls, "localhost", s.port);
        CU_ASSERT_FATAL(d.side.c != NULL);
        CU_ASSERT_EQUAL(side_write(&d.side, "that is all\n", 12), 12);
        static char said[65536];
        size_t n = 0;
        said[0] = '\0';
        while (n < sizeof said - 1 && !strstr(said, "that is all") &&
               poll(&(struct pollfd){.fd = s.out, .events = POLLIN}, 1, 5000) == 1) {
            ssize_t got = read(s.out, said + n, sizeof said - 1 - n);
            if (got <= 0)
                break;
            n += (size_t)got;
            said[n] = '\0';
        }
        CU_ASSERT_PTR_NOT_NULL(strstr(said, "that is all"));
        CU_ASSERT_EQUAL(strstr(said, "advertised by the client: http/1.1\n") != NULL, rows[i].named);
        CU_ASSERT_EQUAL(strstr(said, "ALPN protocols selected: http/1.1\n") != NULL, rows[i].agreed);
        io_conn_close(&d.side.c);
        server_stop(&s);
        io_tls_destroy(&tls);
    }
    struct ht_errmsg e;
    char name[300];
    memset(name, 'x', sizeof name - 1);
    name[299] = '\0';
    CU_ASSERT_PTR_NULL(with(NULL, NULL, NULL, "", false, &e));
    CU_ASSERT_PTR_NULL(with(NULL, NULL, NULL, name, false, &e));
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
        {"a page is fetched over TLS", a_page_comes_through},
        {"megabytes pass both ways over TLS", much_goes_both_ways},
        {"a cut without close_notify is an error", a_cut_is_no_clean_end},
        {"a cut behind bytes is an error after them", a_cut_behind_bytes_is_no_clean_end},
        {"close_notify waits until it can be written", the_last_word_waits_for_room},
        {"bad certificates are explained", bad_certificates_are_explained},
        {"an insecure client accepts any certificate", any_certificate_is_taken_if_that_is_wanted},
        {"a client shows its certificate", our_own_certificate},
        {"unusable certificate files are explained", certificates_that_are_none_are_explained},
        {"ALPN offers the protocol of the configuration", alpn_is_named_when_it_is_wanted},
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
