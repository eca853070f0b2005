#include "edge/acme.h"

#include "base/log.h"
#include "base/mem.h"
#include "edge/look.h"
#include "log_gen.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define HTTP_MS 180000 /* for lego, with the ACME server's own patience */
#define DNS_MS 1200000 /* records in DNS take longer to be seen everywhere */
#define ORDER_NAMES 4
#define ENV_MAX 65536u
#define FILE_MAX 32768u
#define CHALLENGE_MAX 200 /* RFC 8555 8.3: base64url of 128 bits or more */
#define WEBROOT "acme/webroot"
#define LEGO "acme/lego"

struct edge_acme {
    struct io_loop *loop;
    const char *folder;
    const struct edge_acme_config *cfg;
    char lego[EDGE_PROGRAM], path[EDGE_PATH], webroot[EDGE_PATH];
    struct io_listener *listener;
    struct web_server web;
    struct ht_list clients; /* struct client */
    unsigned n_clients;
    /* The order: */
    struct io_program *program;
    struct io_timer patience;
    struct acme_env env; /* what lego has of the file, and so must not be told */
    edge_acme_done *done;
    void *ctx;
    bool too_late;
    char first[256], why[ACME_ERROR];
};

/* ---- challenges ---- */

#define CLIENTS 32u
#define HEAD_MAX 8192
#define WAIT_MS 5000

struct client {
    struct ht_list node;
    struct edge_acme *a;
    struct web_conn web;
};

static struct client *client_of(struct web_conn *web) { return ht_container_of(web, struct client, web); }

static bool is_token(struct ht_slice s) {
    for (size_t i = 0; i < s.n; i++)
        if (!ht_is_digit(s.p[i]) && (ht_lower(s.p[i]) < 'a' || ht_lower(s.p[i]) > 'z') && s.p[i] != '-' &&
            s.p[i] != '_')
            return false;
    return s.n > 0 && s.n <= CHALLENGE_MAX;
}

static bool answer(struct web_conn *web, uint16_t status, struct ht_slice text) {
    struct web_reply r = {.status = status, .type = "text/plain", .body = text, .extra = "Cache-Control: no-store\r\n"};
    return web_reply(web, &r);
}

static bool request(struct web_conn *web) {
    const struct edge_acme *a = client_of(web)->a;
    static const char prefix[] = HAPROXY_ACME_PREFIX;
    struct ht_slice path = web_path(web);
    size_t n = sizeof prefix - 1;
    char name[sizeof WEBROOT + sizeof prefix + CHALLENGE_MAX], file[EDGE_PATH + CHALLENGE_MAX], text[1024];
    bool good = path.n > n && memcmp(path.p, prefix, n) == 0 && is_token(ht_slice_of(path.p + n, path.n - n));
    snprintf(name, sizeof name, WEBROOT "%.*s", good ? (int)path.n : 0, path.p);
    snprintf(file, sizeof file, "%s/%s", a->folder, name);
    int fd = good ? open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text) : -1;
    if (fd >= 0)
        close(fd);
    ht_debug("edge", "a challenge was asked for, and %s there", got > 0 ? "is" : "is not");
    return got > 0 ? answer(web, 200, ht_slice_of(text, (size_t)got))
                   : answer(web, 404, ht_slice_str("There is no such challenge.\n"));
}

static bool refused(struct web_conn *web, uint16_t status, const char *text) {
    return answer(web, status, ht_slice_str(text));
}

static void gone(struct web_conn *web) {
    struct client *c = client_of(web);
    ht_list_remove(&c->node);
    c->a->n_clients--;
    ht_free(c);
}

static void accepted(void *ctx, struct io_conn *conn, const struct io_addr *peer) {
    struct edge_acme *a = ctx;
    struct client *c = a->n_clients < CLIENTS ? ht_calloc(1, sizeof *c) : NULL;
    (void)peer;
    if (!c) {
        io_conn_close(&conn);
        return;
    }
    c->a = a;
    ht_list_push_back(&a->clients, &c->node);
    a->n_clients++;
    web_conn_begin(&c->web, a->loop, &a->web, conn);
}

/* ---- its files ---- */

/* Removes all files of a folder. */
static void empty(const char *folder, const char *name) {
    char path[EDGE_PATH + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    DIR *d = opendir(path);
    for (const struct dirent *item; d && (item = readdir(d));)
        if (item->d_name[0] != '.')
            (void)unlinkat(dirfd(d), item->d_name, 0);
    if (d)
        closedir(d);
}

static void clean(const struct edge_acme *a) {
    empty(a->folder, LEGO "/certificates");
    empty(a->folder, WEBROOT HAPROXY_ACME_PREFIX);
}

/* The ACME server has forgotten the account, as a test server does when it starts anew: lego makes another one next
 * time, with the same key. */
static void forget_account(const struct edge_acme *a) {
    char servers[EDGE_PATH], file[EDGE_PATH + 600];
    DIR *d = opendir(edge_path(a->folder, LEGO "/accounts", servers));
    for (const struct dirent *item; d && (item = readdir(d));) {
        snprintf(file, sizeof file, "%s/%.255s/%.255s/account.json", servers, item->d_name, a->cfg->email);
        if (item->d_name[0] != '.')
            (void)unlink(file);
    }
    if (d)
        closedir(d);
}

/* lego writes * as _. */
static int append_file(const struct edge_acme *a, const char *end, struct ht_buf *out) {
    char file[EDGE_PATH + 300];
    bool wild = a->first[0] == '*';
    snprintf(file, sizeof file, "%s/" LEGO "/certificates/%s%s%s", a->folder, wild ? "_" : "", a->first + wild, end);
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    uint8_t *to = fd >= 0 ? ht_buf_reserve(out, FILE_MAX) : NULL;
    ssize_t n = to ? read(fd, to, FILE_MAX) : -1;
    if (n > 0)
        ht_buf_commit(out, (size_t)n);
    if (fd >= 0)
        close(fd);
    return n > 0 ? ht_buf_append_str(out, "\n") : HT_EIO;
}

/* What the provider of DNS must know. It belongs to this user, or root, and nobody else may read it. */
static int read_env(const struct edge_acme_config *cfg, struct acme_env *out, struct ht_errmsg *err) {
    struct stat st;
    struct ht_errmsg why;
    *out = (struct acme_env){0};
    if (!cfg->dns_env)
        return HT_OK;
    int fd = open(cfg->dns_env, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        int e = errno;
        if (fd >= 0)
            close(fd);
        return ht_fail(err, HT_EIO, "--acme-dns-env %s: %s", cfg->dns_env, strerror(e));
    }
    if (!S_ISREG(st.st_mode) || (st.st_mode & 077) || (st.st_uid != geteuid() && st.st_uid != 0)) {
        close(fd);
        return ht_fail(err, HT_EACCESS,
                       "--acme-dns-env %s: secrets are in it, and others may read it; chmod 600, and it must belong to "
                       "the edge's user or root",
                       cfg->dns_env);
    }
    char *text = ht_malloc(ENV_MAX);
    ssize_t n = text ? read(fd, text, ENV_MAX) : -1;
    close(fd);
    int rc = !text ? ht_fail(err, HT_ENOMEM, "out of memory")
             : n < 0 || n == (ssize_t)ENV_MAX
                 ? ht_fail(err, HT_EIO, "--acme-dns-env %s: it cannot be read, or is too long", cfg->dns_env)
                 : acme_env_read(out, ht_slice_of(text, (size_t)n), &why);
    if (rc == HT_EINVAL)
        ht_fail(err, rc, "--acme-dns-env %s: %s", cfg->dns_env, why.text);
    if (text)
        explicit_bzero(text, ENV_MAX);
    ht_free(text);
    return rc;
}

/* ---- an order ---- */

static void end_order(struct edge_acme *a, struct ht_slice pem, const char *why) {
    edge_acme_done *done = a->done;
    a->done = NULL;
    io_timer_stop(&a->patience);
    acme_env_free(&a->env);
    clean(a);
    done(a->ctx, pem, why);
}

static void on_said(void *ctx, struct ht_slice line) {
    struct edge_acme *a = ctx;
    char text[ACME_ERROR];
    if (!acme_reason(line, &a->env, text))
        return;
    ht_log_with(HT_LOG_DEBUG, "edge", HT_LOG_FIELDS(log_reason(text)), "lego says");
    memcpy(a->why, text, sizeof a->why);
}

static void on_ended(void *ctx, int status, const char *text) {
    struct edge_acme *a = ctx;
    struct ht_buf raw = {0}, pem = {0};
    struct ht_errmsg err = {.text = ""};
    char why[sizeof err.text + 80];
    a->program = NULL;
    if (status == 0) {
        int rc = append_file(a, ".crt", &raw);
        if (rc == HT_OK)
            rc = append_file(a, ".key", &raw);
        if (rc == HT_OK)
            rc = acme_pem_clean(ht_buf_slice(&raw), &pem, &err);
        else
            ht_fail(&err, rc, "lego has ended well, and its certificate cannot be read");
        snprintf(why, sizeof why, "%s", err.text);
        if (rc == HT_OK)
            why[0] = '\0';
    } else if (a->too_late) {
        snprintf(why, sizeof why, "lego did not end in time%s%s", a->why[0] ? "; its last word: " : "", a->why);
    } else {
        snprintf(why, sizeof why, "%s%s", a->why[0] ? "" : "lego: ", a->why[0] ? a->why : text);
    }
    if (status != 0 && strstr(a->why, ":accountDoesNotExist"))
        forget_account(a);
    if (raw.data)
        explicit_bzero(raw.data, raw.cap);
    ht_buf_free(&raw);
    end_order(a, why[0] ? ht_slice_of(NULL, 0) : ht_buf_slice(&pem), why);
    if (pem.data)
        explicit_bzero(pem.data, pem.cap);
    ht_buf_free(&pem);
}

static void on_patience(struct io_timer *t) {
    struct edge_acme *a = ht_container_of(t, struct edge_acme, patience);
    a->too_late = true;
    if (a->program)
        io_program_signal(a->program, SIGKILL);
}

void edge_acme_kill(struct edge_acme *a) {
    if (a->program)
        io_program_signal(a->program, SIGKILL);
}

/* What lego has of this program's environment: where things are, and none of its secrets. */
static size_t plain_env(char texts[][512], const char **env, const struct edge_acme_config *cfg) {
    static const char *const names[] = {"PATH",     "HTTPS_PROXY",   "https_proxy",  "NO_PROXY",
                                        "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ"};
    size_t n = 0;
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++) {
        const char *value = getenv(names[i]);
        if (value && (size_t)snprintf(texts[n], 512, "%s=%s", names[i], value) < 512)
            n++;
    }
    if (cfg->ca && (size_t)snprintf(texts[n], 512, "LEGO_CA_CERTIFICATES=%s", cfg->ca) < 512)
        n++;
    for (size_t i = 0; i < n; i++)
        env[i] = texts[i];
    return n;
}
#define PLAIN_ENV 10

int edge_acme_order(struct edge_acme *a, const char *const names[], size_t n, bool dns, edge_acme_done *done, void *ctx,
                    struct ht_errmsg *err) {
    static const struct io_program_ops ops = {.said = on_said, .ended = on_ended};
    char texts[PLAIN_ENV][512];
    const char *argv[24 + 2 * ORDER_NAMES];
    size_t at = 0;
    const char *const first[] = {a->lego,        "--server", a->cfg->server, "--email",    a->cfg->email,
                                 "--accept-tos", "--path",   a->path,        "--key-type", "ec256"};
    int rc = dns ? read_env(a->cfg, &a->env, err) : HT_OK;
    const char **env = rc == HT_OK ? ht_calloc(PLAIN_ENV + a->env.n + 1, sizeof *env) : NULL;
    if (rc < 0 || !env) {
        acme_env_free(&a->env);
        return rc < 0 ? rc : ht_fail(err, HT_ENOMEM, "out of memory");
    }
    size_t n_env = plain_env(texts, env, a->cfg);
    for (size_t i = 0; i < a->env.n; i++)
        env[n_env++] = a->env.vars[i];
    for (size_t i = 0; i < HT_ARRAY_LEN(first); i++)
        argv[at++] = first[i];
    for (size_t i = 0; i < ht_min(n, ORDER_NAMES); i++) {
        argv[at++] = "--domains";
        argv[at++] = names[i];
    }
    argv[at++] = dns ? "--dns" : "--http";
    argv[at++] = dns ? a->cfg->dns : "--http.webroot";
    if (!dns)
        argv[at++] = a->webroot;
    if (dns && !a->cfg->dns_check)
        argv[at++] = "--dns.disable-cp";
    argv[at++] = "run";
    argv[at] = NULL;
    clean(a);
    snprintf(a->first, sizeof a->first, "%s", names[0]);
    a->why[0] = '\0';
    a->too_late = false;
    a->done = done;
    a->ctx = ctx;
    a->program = io_program_start_env(a->loop, argv, env, &ops, a, err);
    ht_free(env);
    if (!a->program) {
        acme_env_free(&a->env);
        return HT_EIO;
    }
    io_timer_set(&a->patience, dns ? DNS_MS : HTTP_MS);
    return HT_OK;
}

/* ---- beginning and end ---- */

static int find(struct edge_acme *a, struct ht_errmsg *err) {
    const char *given = a->cfg->lego;
    if (given) {
        snprintf(a->lego, sizeof a->lego, "%s", given);
        return strchr(given, '/') && access(given, X_OK) == 0
                   ? HT_OK
                   : ht_fail(err, HT_EINVAL, "--lego %s: there is no such program; give its path", given);
    }
    if (edge_look_program(HAPROXY_ACME_PROGRAM, a->lego))
        return HT_OK;
    return ht_fail(
        err, HT_EIO,
        "--acme-email: lego, which asks the ACME server, is missing: install the package %s (apt-get install "
        "%s), or name the program with --lego",
        HAPROXY_ACME_PACKAGE, HAPROXY_ACME_PACKAGE);
}

int edge_acme_start(struct edge_acme **out, struct io_loop *loop, const char *folder,
                    const struct edge_acme_config *cfg, struct ht_errmsg *err) {
    static const struct io_listener_ops listen_ops = {.accepted = accepted};
    static const struct web_server_ops web_ops = {.request = request, .refuse = refused, .gone = gone};
    struct acme_env env = {0};
    struct edge_acme *a = ht_calloc(1, sizeof *a);
    *out = NULL;
    if (!a)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    *a = (struct edge_acme){.loop = loop, .folder = folder, .cfg = cfg};
    a->web = (struct web_server){
        .ops = &web_ops,
        .limits = {.max_head = HEAD_MAX, .max_headers = HTTP_MAX_HEADERS, .max_target = HEAD_MAX / 2},
        .head_timeout_ms = WAIT_MS,
        .body_timeout_ms = WAIT_MS,
        .keepalive_timeout_ms = WAIT_MS,
        .write_timeout_ms = WAIT_MS,
    };
    ht_list_init(&a->clients);
    io_timer_init(loop, &a->patience, on_patience);
    edge_path(folder, LEGO, a->path);
    edge_path(folder, WEBROOT, a->webroot);
    int rc = find(a, err);
    if (rc == HT_OK && cfg->dns)
        rc = read_env(cfg, &env, err);
    acme_env_free(&env);
    if (rc == HT_OK)
        rc = edge_socket_listen(loop, folder, HAPROXY_ACME_SOCKET, EDGE_SOCKET_FOR_ENGINE, &listen_ops, a, &a->listener,
                                err);
    clean(a);
    if (rc < 0)
        edge_acme_stop(&a);
    *out = a;
    return rc;
}

void edge_acme_stop(struct edge_acme **ap) {
    struct edge_acme *a = *ap;
    *ap = NULL;
    if (!a)
        return;
    io_timer_stop(&a->patience);
    io_program_stop(&a->program, 0);
    clean(a);
    io_listener_close(&a->listener);
    HT_LIST_FOR_SAFE (it, &a->clients)
        web_conn_close(&HT_LIST_ENTRY(it, struct client, node)->web);
    acme_env_free(&a->env);
    ht_free(a);
}
