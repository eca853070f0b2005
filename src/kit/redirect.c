/*
 * Plain HTTP beside https: every request is redirected to https with 308, which keeps its method. The exception are
 * requests of an ACME authority, whose answers are files of --acme-webroot (RFC 8555 8.3).
 */
#include "kit/kit_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"
#include "relay/front.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRITE_TIMEOUT_MS 10000
#define ACME_MAX 4096 /* most bytes of a file: it has a token, a dot and a digest, which are far fewer */
#define ACME_TOKEN_MAX 128
#define REDIRECT_TARGET 4096

static const char acme_path[] = "/.well-known/acme-challenge/";

struct redirect_client {
    struct web_conn web;
    struct ht_list node; /* in kit.redirected */
    struct kit *kit;
    struct relay_front_door *door; /* the connection holds a permit of it */
};

static struct redirect_client *client_of(struct web_conn *c) { return ht_container_of(c, struct redirect_client, web); }

static bool answer(struct web_conn *c, uint16_t status, const char *type, struct ht_slice body, const char *extra) {
    c->close_after = true; /* the next request of this client goes to https */
    return web_reply(c, &(struct web_reply){.status = status, .type = type, .body = body, .extra = extra});
}

static bool refuse(struct web_conn *c, uint16_t status, const char *text) {
    return answer(c, status, "text/plain; charset=utf-8", ht_slice_str(text), "Cache-Control: no-store\r\n");
}

/* ---- answers to an ACME authority ---- */

/* Base64url (RFC 8555 8.3), so there is neither a dot nor a slash in it. */
static bool is_token(struct ht_slice t) {
    if (t.n == 0 || t.n > ACME_TOKEN_MAX)
        return false;
    for (size_t i = 0; i < t.n; i++) {
        char c = t.p[i], low = ht_lower(c);
        if (!(low >= 'a' && low <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_')
            return false;
    }
    return true;
}

/* Somebody who may write to the folder must not make the kit read files elsewhere: below it no symbolic link is
 * followed, and a file with a second name (a hard link) is not read. -1: there is no such file. */
static int open_challenge(const char *root, struct ht_slice token) {
    const char *const folders[] = {root, ".well-known", "acme-challenge"};
    char name[ACME_TOKEN_MAX + 1];
    struct stat st;
    int at = AT_FDCWD;
    for (size_t i = 0; i < HT_ARRAY_LEN(folders); i++) {
        int next = openat(at, folders[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC | (i ? O_NOFOLLOW : 0));
        if (at != AT_FDCWD)
            close(at);
        if (next < 0)
            return -1;
        at = next;
    }
    memcpy(name, token.p, token.n);
    name[token.n] = '\0';
    int fd = openat(at, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    close(at);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_size <= ACME_MAX)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool serve_challenge(struct web_conn *c, struct ht_slice token) {
    const char *root = client_of(c)->kit->opt->acme_webroot;
    char bytes[ACME_MAX];
    int fd = root && is_token(token) ? open_challenge(root, token) : -1;
    ssize_t n = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return refuse(c, 404, "this ACME challenge is not known here\n");
    return answer(c, 200, "application/octet-stream", ht_slice_of(bytes, (size_t)n), "Cache-Control: no-store\r\n");
}

/* ---- everything else ---- */

/* Copies the host without its port. False: it has characters that neither a name nor an address has. */
static bool read_host(struct ht_slice host, char out[300]) {
    const char *colon = host.n ? memrchr(host.p, ':', host.n) : NULL;
    size_t n = colon && !memchr(colon, ']', host.n - (size_t)(colon - host.p)) ? (size_t)(colon - host.p) : host.n;
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._[]:";
    if (n == 0 || n >= 300)
        return false;
    memcpy(out, host.p, n);
    out[n] = '\0';
    return strspn(out, letters) == n;
}

static bool redirect(struct web_conn *c) {
    struct kit *k = client_of(c)->kit;
    struct ht_slice target = http_text(web_bytes(c), c->head.target);
    char host[300], port[8] = "", extra[REDIRECT_TARGET + 400];
    if (c->head.flags & HTTP_TARGET_ABSOLUTE)
        target = http_text(web_bytes(c), c->head.path);
    if (!read_host(web_field(c, "host"), host) || target.n == 0 || target.p[0] != '/' || target.n > REDIRECT_TARGET)
        return refuse(c, 400, "write https://\n");
    if (k->https_port != 443)
        snprintf(port, sizeof port, ":%u", k->https_port);
    snprintf(extra, sizeof extra, "Location: https://%s%s%.*s\r\n", host, port, (int)target.n, target.p);
    return answer(c, 308, "text/plain; charset=utf-8", ht_slice_str("https only\n"), extra);
}

static bool request(struct web_conn *c) {
    struct ht_slice path = web_path(c);
    size_t n = sizeof acme_path - 1;
    if (path.n < n || memcmp(path.p, acme_path, n) != 0)
        return redirect(c);
    return serve_challenge(c, ht_slice_of(path.p + n, path.n - n));
}

static void gone(struct web_conn *c) {
    struct redirect_client *r = client_of(c);
    relay_front_permit_back(r->door);
    ht_list_remove(&r->node);
    ht_free(r);
}

static const struct web_server_ops server_ops = {.request = request, .refuse = refuse, .gone = gone};

void redirect_begin(struct kit *k, struct relay_front_door *door, struct io_conn *conn, const struct io_addr *peer) {
    struct redirect_client *r = ht_calloc(1, sizeof *r);
    (void)peer;
    if (!r) {
        io_conn_close(&conn);
        relay_front_permit_back(door);
        return;
    }
    r->kit = k;
    r->door = door;
    ht_list_init(&r->node);
    ht_list_push_back(&k->redirected, &r->node);
    web_conn_begin(&r->web, k->loop, &k->redirects, conn);
}

int redirect_open(struct kit *k, struct ht_errmsg *err) {
    const struct opt_serve *o = k->opt;
    k->redirects = (struct web_server){
        .ops = &server_ops,
        .limits = {8192, HTTP_MAX_HEADERS, REDIRECT_TARGET},
        .head_timeout_ms = o->head_timeout_ms,
        .keepalive_timeout_ms = o->keepalive_timeout_ms,
        .write_timeout_ms = WRITE_TIMEOUT_MS,
    };
    if (!o->acme_webroot)
        return HT_OK;
    if (k->https_port == 0)
        return ht_fail(err, HT_EINVAL,
                       "--acme-webroot goes with two public addresses, as in --public 0.0.0.0:443 --public "
                       "http://0.0.0.0:80, but none of them has https");
    if (access(o->acme_webroot, R_OK | X_OK) != 0)
        ht_warn("kit", "--acme-webroot %s: it cannot be read yet: %s", o->acme_webroot, strerror(errno));
    return HT_OK;
}

void redirect_close(struct kit *k) {
    HT_LIST_FOR_SAFE (it, &k->redirected)
        web_conn_close(&HT_LIST_ENTRY(it, struct redirect_client, node)->web);
}
