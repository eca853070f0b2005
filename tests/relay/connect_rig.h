/*
 * The CONNECT proxy on a loop, with names of the test's own: getaddrinfo() is here. A name's answer is its row of
 * `names`; names that begin with "silent" get none until the test lets go.
 */
#ifndef HT_TESTS_RELAY_CONNECT_RIG_H
#define HT_TESTS_RELAY_CONNECT_RIG_H

#include "relay/connect.h"
#include "relay/kit_rig.h"
#include "support/ports.h"

#include <dirent.h>
#include <netdb.h>
#include <pthread.h>

/* ---- names ---- */

static struct {
    const char *name;
    const char *addrs[8];
} names[8];
static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t names_changed = PTHREAD_COND_INITIALIZER;
static bool names_released;
static unsigned names_asked;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    struct addrinfo **to = out;
    (void)service, (void)hints;
    *out = NULL;
    pthread_mutex_lock(&names_lock);
    names_asked++;
    while (strncmp(node, "silent", 6) == 0 && !names_released)
        pthread_cond_wait(&names_changed, &names_lock);
    for (size_t i = 0; i < HT_ARRAY_LEN(names) && names[i].name; i++) {
        for (size_t k = 0; strcmp(names[i].name, node) == 0 && names[i].addrs[k]; k++) {
            struct addrinfo *a = calloc(1, sizeof *a + sizeof(struct io_addr));
            struct io_addr *addr = (struct io_addr *)(a + 1);
            if (!a || io_addr_parse(addr, names[i].addrs[k], 0))
                abort();
            a->ai_family = addr->ss.ss_family;
            a->ai_addrlen = addr->len;
            a->ai_addr = (struct sockaddr *)&addr->ss;
            *to = a;
            to = &a->ai_next;
        }
    }
    pthread_mutex_unlock(&names_lock);
    return *out ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *a) {
    while (a) {
        struct addrinfo *next = a->ai_next;
        free(a);
        a = next;
    }
}

static inline void names_release(void) {
    pthread_mutex_lock(&names_lock);
    names_released = true;
    pthread_cond_broadcast(&names_changed);
    pthread_mutex_unlock(&names_lock);
}

/* `name` has these addresses from now on, and its old answer is forgotten. */
static inline void name_is(size_t row, const char *name, const char *a, const char *b, const char *c) {
    pthread_mutex_lock(&names_lock);
    names[row].name = name;
    names[row].addrs[0] = a;
    names[row].addrs[1] = b;
    names[row].addrs[2] = c;
    names[row].addrs[3] = NULL;
    pthread_mutex_unlock(&names_lock);
}

/* ---- a destination ---- */

struct place {
    int fd;
    uint16_t port;
};

static inline struct place place_open(void) {
    struct io_addr a;
    struct place p = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&a, "127.0.0.1", 0), 0);
    setsockopt(p.fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)); /* for place_refuses() */
    CU_ASSERT_EQUAL_FATAL(bind(p.fd, (struct sockaddr *)&a.ss, a.len), 0);
    CU_ASSERT_EQUAL_FATAL(listen(p.fd, 64), 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(p.fd, (struct sockaddr *)&a.ss, &a.len), 0);
    p.port = io_addr_port(&a);
    return p;
}

/* From now on who dials it is refused, and no other program is there in its place. */
static inline void place_refuses(struct place *p) {
    close(p->fd);
    p->fd = hold_v4_port(p->port);
    CU_ASSERT_FATAL(p->fd >= 0);
}

static inline void place_reopen(struct place *p) {
    close(p->fd);
    *p = place_open();
}

/* Whom the proxy has connected, as one to read from and write to. */
static inline struct visitor place_accept(const struct place *p) {
    struct visitor v = {.fd = -1};
    UNTIL(v.fd >= 0 || (v.fd = accept4(p->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
    setsockopt(v.fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    return v;
}

static inline bool place_is_quiet(const struct place *p) {
    int fd = accept4(p->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd < 0;
}

/* ---- the proxy ---- */

static struct relay_connect *proxy;
static struct relay_connect_config proxy_cfg;
static struct relay_rule proxy_rules[4];
static struct place place;
static uint16_t proxy_port;
static const char *proxy_token; /* NULL: none is wanted */
static unsigned proxy_left;

static inline bool rig_token(void *ctx, struct ht_slice token, struct relay_known *out) {
    (void)ctx, (void)out;
    return proxy_token && ht_slice_is(token, proxy_token);
}

static inline void rig_left(void *ctx) {
    (void)ctx;
    proxy_left++;
}

/* The table and the policy stand; `place` may be connected to. */
static inline void proxy_prepare(void) {
    char rule[64];
    rig_start();
    rig_table();
    proxy_left = 0;
    proxy_token = NULL;
    names_released = false;
    memset(names, 0, sizeof names);
    place = place_open();
    snprintf(rule, sizeof rule, "127.0.0.1:%u", place.port);
    CU_ASSERT_EQUAL_FATAL(relay_rule_parse(&proxy_rules[0], rule, NULL), 0);
    proxy_cfg = (struct relay_connect_config){
        .policy = {.pass = true, .allow = proxy_rules, .n_allow = 1},
        .dial_timeout_ms = 20000,
        .knows = rig_token,
        .left = rig_left,
    };
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&proxy_cfg.addr, "127.0.0.1", 0), 0);
}

/* Another table, with these times. */
static inline void proxy_table_with(uint64_t head_ms, uint64_t half_close_ms) {
    relay_table_destroy(&rig.table);
    rig.cfg.head_timeout_ms = head_ms;
    rig.cfg.half_close_timeout_ms = half_close_ms;
    rig_table();
}

static inline void proxy_open(void) {
    struct io_addr at;
    struct ht_errmsg err;
    proxy_cfg.wants_token = proxy_token != NULL;
    CU_ASSERT_EQUAL_FATAL(relay_connect_open(rig.table, &proxy_cfg, &proxy, &err), 0);
    relay_connect_addr(proxy, &at);
    proxy_port = io_addr_port(&at);
}

static inline void proxy_begin(void) {
    proxy_prepare();
    proxy_open();
}

/* A look-up that nobody waits for any more has a thread of its own still. */
static inline bool only_thread(void) {
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/task");
    CU_ASSERT_PTR_NOT_NULL_FATAL(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n == 3; /* . and .. */
}

static inline void proxy_end(void) {
    UNTIL(relay_connect_clients(proxy) == 0);
    UNTIL(only_thread());
    CU_ASSERT_EQUAL(rig.metrics.connect_clients_active, 0);
    relay_connect_close(&proxy);
    close(place.fd);
    rig_stop();
}

#define ESTABLISHED "HTTP/1.1 200 Connection established\r\n\r\n"

/* Sends CONNECT for `host` and the place's port. */
static inline struct visitor proxy_ask(const char *host) {
    char head[512];
    struct visitor v = vis_connect(proxy_port);
    snprintf(head, sizeof head, "CONNECT %s:%u HTTP/1.1\r\nHost: x\r\n\r\n", host, place.port);
    vis_send(&v, head);
    return v;
}

/* The whole answer is one of ours with that status and error; then the end. */
static inline bool is_answer(struct visitor *v, unsigned status, const char *error) {
    char begin[32], why[64];
    UNTIL(vis_over(v));
    size_t n = vis_got(v);
    const char *p = (const char *)ht_buf_head(&v->rx);
    snprintf(begin, sizeof begin, "HTTP/1.1 %u ", status);
    snprintf(why, sizeof why, "x-hoody-tunnel: error=%s\r\n", error);
    bool good = n > strlen(begin) && memcmp(p, begin, strlen(begin)) == 0 && memmem(p, n, why, strlen(why)) != NULL;
    if (!good)
        printf("# expected %u %s, got %.*s\n", status, error, (int)n, p ? p : "");
    return good && !v->cut;
}

#define EXPECT_ANSWER(v, status, error)                                                                                \
    do {                                                                                                               \
        CU_ASSERT(is_answer((v), (status), (error)));                                                                  \
        vis_close(v);                                                                                                  \
    } while (0)

#endif
