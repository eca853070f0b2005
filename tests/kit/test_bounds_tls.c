/*
 * What strangers who speak TLS with a kit can take: places (hardening case 28), and memory, which OpenSSL allocates and
 * which is counted here. They must stay below the bounds of kit/bounds.h, and what they cost must be gone with them.
 */
#include "kit/bounds.h"
#include "peer.h"

#include <fcntl.h>
#include <openssl/ssl.h>

/* ---- memory of OpenSSL: the kit's, and that of the clients in this process ---- */

enum { OF_KIT, OF_CLIENTS };
static size_t bytes_of[2];
static int counted = OF_KIT;

union block {
    struct {
        size_t n;
        int of;
    } b;
    max_align_t align;
};

static void *count_malloc(size_t n, const char *file, int line) {
    union block *p = malloc(sizeof *p + n);
    (void)file, (void)line;
    if (!p)
        return NULL;
    p->b.n = n;
    p->b.of = counted;
    bytes_of[counted] += n;
    return p + 1;
}

static void count_free(void *at, const char *file, int line) {
    union block *p = at ? (union block *)at - 1 : NULL;
    (void)file, (void)line;
    if (p)
        bytes_of[p->b.of] -= p->b.n;
    free(p);
}

static void *count_realloc(void *at, size_t n, const char *file, int line) {
    union block *p = at ? (union block *)at - 1 : NULL, *q;
    if (!p)
        return count_malloc(n, file, line);
    q = realloc(p, sizeof *q + n);
    if (!q)
        return NULL;
    bytes_of[q->b.of] += n - q->b.n;
    q->b.n = n;
    return q + 1;
}

/* ---- the kit ---- */

static uint16_t public;
static char own_host[64];
static struct peer driver;
static size_t before;

static size_t kit_bytes(void) { return ht_mem_bytes() + bytes_of[OF_KIT]; }

static void start(const char *more) {
    char args[256];
    snprintf(args, sizeof args,
             "--tls-self-signed --public https://127.0.0.1:0 --domain tunnel.localhost --head-timeout 10m %s", more);
    host_start(args);
    peer_start(&driver, NULL);
    uint16_t port = peer_bind(&driver, WIRE_KIND_HTTP, 0);
    const struct ht_slice url = driver.any.bind_ok.public_url;
    const char *colon = memrchr(url.p, ':', url.n);
    CU_ASSERT_PTR_NOT_NULL_FATAL(colon);
    public = (uint16_t)strtoul(colon + 1, NULL, 10);
    snprintf(own_host, sizeof own_host, "%u.tunnel.localhost", port);
}

static void stop(void) {
    peer_bye(&driver);
    host_stop();
}

/* ---- clients ---- */

struct client {
    struct raw r;
    SSL *ssl;
};

static SSL_CTX *trusts_all;

static bool did(struct client *c, int (*what)(SSL *)) {
    counted = OF_CLIENTS;
    bool done = what(c->ssl) == 1;
    counted = OF_KIT;
    return done;
}

/* Connects; with `from` NULL from where everybody is. */
static void client_comes(struct client *c, const char *from) {
    raw_connect_from(&c->r, public, from ? from : "127.0.0.1");
    c->ssl = NULL;
}

static void client_shakes_hands(struct client *c) {
    counted = OF_CLIENTS;
    if (!trusts_all)
        trusts_all = SSL_CTX_new(TLS_client_method());
    c->ssl = SSL_new(trusts_all);
    CU_ASSERT_PTR_NOT_NULL_FATAL(c->ssl);
    SSL_set_fd(c->ssl, c->r.fd);
    counted = OF_KIT;
    CU_ASSERT_EQUAL_FATAL(fcntl(c->r.fd, F_SETFL, O_NONBLOCK), 0);
    UNTIL(did(c, SSL_connect));
}

static void client_says(struct client *c, const char *text) {
    counted = OF_CLIENTS;
    int n = SSL_write(c->ssl, text, (int)strlen(text));
    counted = OF_KIT;
    CU_ASSERT_EQUAL_FATAL(n, (int)strlen(text));
}

static void client_goes(struct client *c) {
    counted = OF_CLIENTS;
    SSL_free(c->ssl);
    counted = OF_KIT;
    raw_close(&c->r);
}

/* The status of a request for a host that nobody has, and the end of the connection. */
static int client_asks(struct client *c) {
    char text[4096] = "";
    size_t n = 0;
    int status = 0;
    uint64_t end = ht_now_ms() + PATIENCE_MS;
    client_says(c, "GET / HTTP/1.1\r\nHost: nobody.tunnel.localhost\r\nConnection: close\r\n\r\n");
    while (!strstr(text, "\r\n\r\n") && ht_now_ms() < end) {
        one_turn();
        counted = OF_CLIENTS;
        int got = SSL_read(c->ssl, text + n, (int)(sizeof text - 1 - n));
        counted = OF_KIT;
        n += got > 0 ? (size_t)got : 0;
        text[n] = '\0';
    }
    sscanf(text, "HTTP/1.1 %d", &status);
    client_goes(c);
    return status;
}

/* ---- places ---- */

#define FLOOD (KIT_BOUND_HANDSHAKES + 100)

static uint64_t crowded(void) {
    return kit_metrics(host.kit)->tls_handshake_failures_total[HT_METRIC_TLS_FAILURE_CROWDED];
}

static unsigned guests(void) { return kit_fd_permits_used(host.kit) - 1; } /* and the driver's port */

static void a_crowd_of_handshakes(void) {
    static struct client many[FLOOD];
    static const char part[] = "\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03";
    struct client slow, honest;
    start("--max-fds 2000");
    client_comes(&slow, "127.0.0.2");
    UNTIL(guests() == 1);
    for (size_t i = 0; i < FLOOD; i++) {
        client_comes(&many[i], NULL);
        CU_ASSERT(i % 2 || send(many[i].r.fd, part, sizeof part - 1, MSG_NOSIGNAL) == sizeof part - 1);
        one_turn();
    }
    UNTIL(crowded() == FLOOD + 1 - KIT_BOUND_HANDSHAKES);
    CU_ASSERT_EQUAL(guests(), KIT_BOUND_HANDSHAKES);
    CU_ASSERT(raw_ended(&many[0].r) && raw_ended(&many[100].r));
    CU_ASSERT_FALSE(raw_ended(&many[101].r));
    client_shakes_hands(&slow); /* it came first, from another address */
    CU_ASSERT_EQUAL(client_asks(&slow), 404);
    for (int i = 0; i < 3; i++) { /* those who come now get in: from elsewhere, and from where the crowd is */
        client_comes(&honest, i ? "127.0.0.1" : "127.0.0.3");
        client_shakes_hands(&honest);
        CU_ASSERT_EQUAL(client_asks(&honest), 404);
    }
    CU_ASSERT(guests() <= KIT_BOUND_HANDSHAKES);
    for (size_t i = 0; i < FLOOD; i++)
        client_goes(&many[i]);
    UNTIL(guests() == 0);
    stop();
}

/* ---- memory ---- */

#define N 8u

static void within(const char *what, size_t bound) {
    for (int i = 0; i < 50; i++)
        ready_turn();
    size_t now = kit_bytes(), cost = now > before ? now - before : 0;
    printf("# %s: %zu bytes each, %zu allowed\n", what, cost / N, bound);
    CU_ASSERT(cost <= N * bound);
    CU_ASSERT(cost / N * 4 >= bound); /* a bound that nobody comes near says nothing */
}

static void leave(struct client *many) {
    for (unsigned i = 0; i < N; i++)
        client_goes(&many[i]);
    UNTIL(guests() == 0);
    for (int i = 0; i < 50; i++)
        ready_turn();
    /* But for the records that are kept for the next ones (test_bounds.c). */
    CU_ASSERT(kit_bytes() <= before + N * 1024 + 16 * sizeof(struct http_head));
    stop();
}

/* What is made once, by the first handshake of all. */
static void warm_up(void) {
    struct client c;
    client_comes(&c, NULL);
    client_shakes_hands(&c);
    CU_ASSERT_EQUAL(client_asks(&c), 404);
    UNTIL(guests() == 0);
    for (int i = 0; i < 50; i++)
        ready_turn();
    before = kit_bytes();
}

/* A ClientHello as long as it may be, all but its end. */
static void long_hellos(void) {
    static char said[5 + 16384] = "\x16\x03\x01\x40\x00\x01\x00\x40";
    struct client many[N];
    start("");
    warm_up();
    for (unsigned i = 0; i < N; i++) {
        client_comes(&many[i], NULL);
        CU_ASSERT_EQUAL(send(many[i].r.fd, said, sizeof said, MSG_NOSIGNAL), (ssize_t)sizeof said);
    }
    UNTIL(guests() == N);
    within("a handshake", 4096 + KIT_BOUND_TLS);
    leave(many);
}

/* Requests whose answers nobody reads, and most of a record. */
static void deaf_clients(void) {
    static const char part[16384] = "\x17\x03\x03\x41\x00";
    struct client many[N];
    start("");
    warm_up();
    for (unsigned i = 0; i < N; i++) {
        client_comes(&many[i], NULL);
        setsockopt(many[i].r.fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
        client_shakes_hands(&many[i]);
        for (int k = 0; k < 400; k++)
            client_says(&many[i], "GET / HTTP/1.1\r\nHost: nobody.tunnel.localhost\r\n\r\n");
        (void)!send(many[i].r.fd, part, sizeof part, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    within("a client that does not read", kit_bound_waiting() + KIT_BOUND_TLS);
    leave(many);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a crowd of unfinished handshakes keeps nobody out", a_crowd_of_handshakes},
        {"handshakes stay within their bound", long_hellos},
        {"clients who do not read stay within their bound", deaf_clients},
        {NULL, NULL},
    };
    if (CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free) != 1)
        return 1;
    int failed = tap_main("bounds, TLS", tests);
    SSL_CTX_free(trusts_all);
    return failed;
}
