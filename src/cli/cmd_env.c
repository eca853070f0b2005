/* env: prints the variables with which programs in the container use the kit's proxy and trust its certificates. */
#include "cli/cli.h"

#include "base/mem.h"
#include "driver/url.h"
#include "wire_gen.h"
#include "json/json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUNDLE_MAX (4u * 1024u * 1024u) /* bytes; the system's authorities have about 256 KiB */

/* ---- variables, and how each format writes them ---- */

struct variable {
    const char *name;
    const char *value;
};

struct variables {
    struct variable all[24];
    size_t n;
};

static void add(struct variables *v, const char *name, const char *value) {
    v->all[v->n++] = (struct variable){name, value};
}

/* Appends a text with a backslash before each of the `special` characters. */
static int put_escaped(struct ht_buf *b, const char *value, const char *special) {
    int rc = HT_OK;
    for (const char *p = value; *p && rc == HT_OK; p++) {
        rc = strchr(special, *p) ? ht_buf_append(b, "\\", 1) : HT_OK;
        if (rc == HT_OK)
            rc = ht_buf_append(b, p, 1);
    }
    return rc;
}

/* Between single quotes only a single quote is special (POSIX.1 2.2.2). */
static int put_sh(struct ht_buf *b, const struct variable *v) {
    int rc = ht_buf_printf(b, "export %s='", v->name);
    for (const char *p = v->value; *p && rc == HT_OK; p++)
        rc = *p == '\'' ? ht_buf_append_str(b, "'\\''") : ht_buf_append(b, p, 1);
    return rc == HT_OK ? ht_buf_append_str(b, "'\n") : rc;
}

static int put_fish(struct ht_buf *b, const struct variable *v) {
    int rc = ht_buf_printf(b, "set -gx %s '", v->name);
    if (rc == HT_OK)
        rc = put_escaped(b, v->value, "\\'");
    return rc == HT_OK ? ht_buf_append_str(b, "'\n") : rc;
}

/* Readers of .env files differ. They agree on values without special characters, and on single quotes; a value with a
 * single quote is put into double quotes. */
static int put_dotenv(struct ht_buf *b, const struct variable *v) {
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./:,@%+=*[]";
    bool bare = v->value[strspn(v->value, plain)] == '\0', single = !strchr(v->value, '\'');
    int rc = ht_buf_printf(b, "%s=%s", v->name, bare ? "" : single ? "'" : "\"");
    if (rc == HT_OK)
        rc = put_escaped(b, v->value, bare || single ? "" : "\\\"$`");
    return rc == HT_OK ? ht_buf_printf(b, "%s\n", bare ? "" : single ? "'" : "\"") : rc;
}

/* docker takes the rest of the line as the value, with any quotes in it. */
static int put_docker(struct ht_buf *b, const struct variable *v) {
    return ht_buf_printf(b, "%s=%s\n", v->name, v->value);
}

static int put_all(struct ht_buf *b, const struct variables *v, enum opt_format format) {
    static int (*const put[])(struct ht_buf *, const struct variable *) = {
        [OPT_FORMAT_SH] = put_sh,
        [OPT_FORMAT_FISH] = put_fish,
        [OPT_FORMAT_DOTENV] = put_dotenv,
        [OPT_FORMAT_DOCKER] = put_docker,
    };
    int rc = format == OPT_FORMAT_JSON ? ht_buf_append_str(b, "{") : HT_OK;
    for (size_t i = 0; i < v->n && rc == HT_OK; i++) {
        if (format != OPT_FORMAT_JSON) {
            rc = put[format](b, &v->all[i]);
            continue;
        }
        rc = ht_buf_printf(b, "%s\"%s\":", i ? "," : "", v->all[i].name);
        if (rc == HT_OK)
            rc = cli_json_string(b, v->all[i].value);
    }
    return rc == HT_OK && format == OPT_FORMAT_JSON ? ht_buf_append_str(b, "}\n") : rc;
}

/* ---- asking the kit ---- */

struct env {
    const struct opt_env *o;
    struct cli_access access;
    char token[WIRE_LIMIT_MAX_TOKEN + 1];
    char address[300]; /* of the proxy */
    bool wants_token;
    struct ht_buf ca;    /* the certificates that drivers offer; empty: none */
    struct ht_buf proxy; /* the proxy's URL */
    struct ht_buf no_proxy;
    char bundle[PATH_MAX], extra[PATH_MAX];
};

static int ask(const struct env *e, const char *resource, struct web_answer *answer) {
    struct ht_errmsg err;
    struct cli_ask q = {.url = e->access.url,
                        .ca = e->access.ca,
                        .pin = e->access.pin,
                        .token = e->token,
                        .resource = resource,
                        .timeout_ms = e->o->timeout_ms};
    int rc = cli_admin_ask(&q, answer, &err);
    if (rc == HT_OK)
        return OPT_EXIT_OK;
    cli_complain("%s%s", err.text,
                 !e->access.set_url && !e->access.stored_url && rc != HT_EINVAL ? CLI_NAME_THE_KIT : "");
    return rc == HT_EINVAL ? OPT_EXIT_USAGE : rc == HT_ETLS ? OPT_EXIT_CONFIG : OPT_EXIT_GAVE_UP;
}

static int not_understood(const char *what) {
    cli_complain("the server at this URL is not a kit: %s", what);
    return OPT_EXIT_FAILURE;
}

/* Reads the proxy's host and port from an answer. */
static int read_proxy(struct env *e, const struct web_answer *a) {
    static const struct json_limits limits = {.max_depth = 4, .max_keys = JSON_MAX_KEYS, .refuse_nul = true};
    const char *text = (const char *)ht_buf_head(&a->body);
    size_t n = ht_buf_size(&a->body);
    if (n == 0 || json_validate(text, n, &limits, NULL) < 0)
        return not_understood("its answer is not JSON");
    cJSON *tree = cJSON_ParseWithLength(text, n);
    const cJSON *address = cJSON_GetObjectItemCaseSensitive(tree, "address");
    int status = OPT_EXIT_OK;
    e->wants_token = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(tree, "wantsToken"));
    if (cJSON_IsString(address)) {
        int len = snprintf(e->address, sizeof e->address, "%s", address->valuestring);
        struct driver_target t;
        if (len < 0 || (size_t)len >= sizeof e->address || driver_target_parse(&t, e->address, NULL) < 0)
            status = not_understood("its \"address\" is not an address");
    } else if (address) {
        cli_complain("the kit has no proxy; start it with --connect-proxy 127.0.0.1:9090");
        status = OPT_EXIT_FAILURE;
    } else {
        status = not_understood("its answer has no \"address\"");
    }
    cJSON_Delete(tree);
    return status;
}

static int ask_proxy(struct env *e) {
    struct web_answer a;
    int status = ask(e, "/proxy", &a);
    if (status != OPT_EXIT_OK)
        return status;
    if (a.status == 200) {
        status = read_proxy(e, &a);
    } else {
        cli_complain_status(a.status, "", e->token, e->access.stored_token);
        status = a.status == 401 ? OPT_EXIT_AUTH : OPT_EXIT_FAILURE;
    }
    ht_buf_free(&a.body);
    return status;
}

/* Checks that the answer has certificates and nothing else, since every program here will trust it. */
static bool is_pem(struct ht_slice s) {
    static const char begin[] = "-----BEGIN CERTIFICATE-----";
    return memmem(s.p, s.n, begin, sizeof begin - 1) && !memmem(s.p, s.n, "PRIVATE", 7) && !memchr(s.p, '\0', s.n);
}

static int ask_ca(struct env *e) {
    struct web_answer a;
    int status = ask(e, "/ca.pem", &a);
    if (status != OPT_EXIT_OK)
        return status;
    /* 404: no driver offers one, or the kit is older. */
    if (a.status == 200 && is_pem(ht_buf_slice(&a.body))) {
        e->ca = a.body;
        return OPT_EXIT_OK;
    }
    if (a.status != 404 && a.status != 200) {
        cli_complain_status(a.status, "", e->token, e->access.stored_token);
        status = OPT_EXIT_FAILURE;
    } else if (a.status == 200 && ht_buf_size(&a.body) > 0) {
        status = not_understood("its ca.pem is not a list of certificates");
    }
    ht_buf_free(&a.body);
    return status;
}

/* ---- the values ---- */

/* Appends the proxy's host. A proxy that listens on all addresses is reached at the kit's host. */
static int put_host(const struct env *e, const char *host, struct ht_buf *b) {
    struct driver_url url;
    if (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0)
        host = driver_url_parse(&url, e->access.url, WIRE_CONNECT_PATH, NULL) == HT_OK ? url.host : "127.0.0.1";
    return ht_buf_printf(b, strchr(host, ':') ? "[%s]" : "%s", host);
}

/* Characters that are not unreserved are percent-encoded (RFC 3986 2.3). */
static int put_userinfo(struct ht_buf *b, const char *token) {
    static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    int rc = HT_OK;
    for (const char *p = token; *p && rc == HT_OK; p++)
        rc = strchr(unreserved, *p) ? ht_buf_append(b, p, 1) : ht_buf_printf(b, "%%%02X", (unsigned char)*p);
    return rc;
}

static int make_proxy(struct env *e) {
    struct driver_target t;
    struct ht_buf *b = &e->proxy;
    if (driver_target_parse(&t, e->address, NULL) < 0)
        return HT_EINVAL;
    int rc = ht_buf_append_str(b, "http://");
    if (rc == HT_OK && e->wants_token) {
        rc = ht_buf_append_str(b, "tunnel:");
        if (rc == HT_OK)
            rc = put_userinfo(b, e->token);
        if (rc == HT_OK)
            rc = ht_buf_append_str(b, "@");
    }
    if (rc == HT_OK)
        rc = put_host(e, t.host, b);
    return rc == HT_OK ? ht_buf_printf(b, ":%u", t.port) : rc;
}

static bool list_has(const char *list, struct ht_slice item) {
    for (const char *p = list; *p; p += strspn(p, ", ")) {
        size_t n = strcspn(p, ", ");
        if (ht_slice_case_eq(ht_slice_of(p, n), item))
            return true;
        p += n;
    }
    return false;
}

/* NO_PROXY keeps its present items. This machine's own names are added, which must not go to the proxy. */
static int make_no_proxy(struct env *e) {
    static const char *const own[] = {"localhost", "127.0.0.1", "::1"};
    const char *lower = getenv("no_proxy"), *upper = getenv("NO_PROXY");
    const char *had = lower && *lower ? lower : upper ? upper : "";
    struct ht_buf *b = &e->no_proxy;
    int rc = HT_OK;
    for (const char *p = had; *p && rc == HT_OK; p += strspn(p, ", \t\r\n")) {
        size_t n = strcspn(p, ", \t\r\n");
        if (n > 0)
            rc = ht_buf_printf(b, "%s%.*s", ht_buf_size(b) ? "," : "", (int)n, p);
        p += n;
    }
    for (size_t i = 0; i < HT_ARRAY_LEN(own) && rc == HT_OK; i++)
        if (!list_has(had, ht_slice_str(own[i])))
            rc = ht_buf_printf(b, "%s%s", ht_buf_size(b) ? "," : "", own[i]);
    return rc;
}

/* ---- the files ---- */

static int complain_errno(const char *what, const char *path) {
    cli_complain("cannot %s %s: %s", what, path, strerror(errno));
    return OPT_EXIT_CONFIG;
}

/* Finds the path of the bundle. It is absolute, because exported variables are used in every directory. */
static int locate_bundle(struct env *e) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME"), *given = e->o->ca_bundle;
    char cwd[PATH_MAX] = "";
    int n;
    if (given && *given != '/' && !getcwd(cwd, sizeof cwd))
        return complain_errno("find", "the working directory");
    if (given) {
        n = snprintf(e->bundle, sizeof e->bundle, "%s%s%s", cwd, *cwd ? "/" : "", given);
    } else if (state && *state == '/') {
        n = snprintf(e->bundle, sizeof e->bundle, "%s/hoody-tunnel/ca-bundle.pem", state);
    } else if (home && *home == '/') {
        n = snprintf(e->bundle, sizeof e->bundle, "%s/.local/state/hoody-tunnel/ca-bundle.pem", home);
    } else {
        cli_complain("neither XDG_STATE_HOME nor HOME says where the authorities are kept; --ca-bundle names a file");
        return OPT_EXIT_CONFIG;
    }
    const char *slash = n < 0 || (size_t)n >= sizeof e->bundle - 32 ? NULL : strrchr(e->bundle, '/');
    if (!slash) {
        cli_complain("the path of the bundle is too long");
        return OPT_EXIT_CONFIG;
    }
    snprintf(e->extra, sizeof e->extra, "%.*s/tunnel-ca.pem", (int)(slash - e->bundle), e->bundle);
    for (char *p = e->bundle + 1; !given && (p = strchr(p, '/')); p++) {
        *p = '\0';
        int rc = mkdir(e->bundle, 0700);
        int why = errno;
        *p = '/';
        errno = why;
        if (rc < 0 && why != EEXIST)
            return complain_errno("make the directories of", e->bundle);
    }
    return OPT_EXIT_OK;
}

/* Appends a whole file. False: it cannot be read. */
static bool read_into(struct ht_buf *b, const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t before = ht_buf_size(b);
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0 && ht_buf_size(b) < BUNDLE_MAX) {
        uint8_t *to = ht_buf_reserve(b, 65536);
        n = to ? read(fd, to, 65536) : -1;
        if (n > 0)
            ht_buf_commit(b, (size_t)n);
    }
    if (fd >= 0)
        close(fd);
    return n == 0 && ht_buf_size(b) > before;
}

/* Appends the authorities that programs here trust already. */
static void put_system(struct env *e, struct ht_buf *b) {
    static const char *const places[] = {
        "/etc/ssl/certs/ca-certificates.crt", /* Debian, Alpine, Arch */
        "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora */
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/ssl/ca-bundle.pem", /* openSUSE */
        "/etc/ssl/cert.pem",
    };
    const char *own = getenv("SSL_CERT_FILE");
    if (own && *own && strcmp(own, e->bundle) != 0 && read_into(b, own))
        return;
    for (size_t i = 0; i < HT_ARRAY_LEN(places); i++)
        if (read_into(b, places[i]))
            return;
    cli_complain("no file with this system's authorities was found, so with these variables programs trust only those "
                 "of the tunnel");
}

static int write_file(const char *path, const struct ht_buf *text) {
    mode_t everybody_reads = S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH;
    return cli_replace_file(path, everybody_reads, text, NULL) < 0 ? complain_errno("write", path) : OPT_EXIT_OK;
}

static int write_files(struct env *e) {
    struct ht_buf all = {0};
    int status = locate_bundle(e);
    if (status == OPT_EXIT_OK)
        status = write_file(e->extra, &e->ca);
    if (status == OPT_EXIT_OK) {
        put_system(e, &all);
        bool newline = ht_buf_size(&all) == 0 || ht_buf_head(&all)[ht_buf_size(&all) - 1] == '\n';
        if ((!newline && ht_buf_append(&all, "\n", 1) < 0) ||
            ht_buf_append(&all, ht_buf_head(&e->ca), ht_buf_size(&e->ca)) < 0) {
            cli_complain("%s", ht_err_text(HT_ENOMEM));
            status = OPT_EXIT_FAILURE;
        } else {
            status = write_file(e->bundle, &all);
        }
    }
    ht_buf_free(&all);
    return status;
}

/* ---- the command ---- */

static const char *text_of(struct ht_buf *b) {
    return ht_buf_append(b, "", 1) == HT_OK ? (const char *)ht_buf_head(b) : "";
}

static int print(struct env *e) {
    static const char *const proxies[] = {"HTTPS_PROXY", "https_proxy", "HTTP_PROXY",
                                          "http_proxy",  "ALL_PROXY",   "all_proxy"};
    static const char *const bundles[] = {"SSL_CERT_FILE",  "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
                                          "GIT_SSL_CAINFO", "PIP_CERT",           "CARGO_HTTP_CAINFO"};
    struct variables v = {.n = 0};
    struct ht_buf out = {0};
    const char *proxy = text_of(&e->proxy), *no_proxy = text_of(&e->no_proxy);
    for (size_t i = 0; i < HT_ARRAY_LEN(proxies); i++)
        add(&v, proxies[i], proxy);
    add(&v, "NO_PROXY", no_proxy);
    add(&v, "no_proxy", no_proxy);
    for (size_t i = 0; i < HT_ARRAY_LEN(bundles) && *e->bundle; i++)
        add(&v, bundles[i], e->bundle);
    if (*e->extra)
        add(&v, "NODE_EXTRA_CA_CERTS", e->extra);
    if (strpbrk(e->bundle, "\r\n")) {
        cli_complain("the path of the bundle contains a line end; --ca-bundle names another file");
        return OPT_EXIT_CONFIG;
    }
    int rc = *proxy && *no_proxy ? put_all(&out, &v, e->o->format) : HT_ENOMEM;
    bool ok = rc == HT_OK && fwrite(ht_buf_head(&out), 1, ht_buf_size(&out), stdout) == ht_buf_size(&out) &&
              fflush(stdout) == 0;
    if (!ok)
        cli_complain("%s", rc == HT_OK ? "standard output cannot be written" : ht_err_text(rc));
    if (out.data)
        explicit_bzero(out.data, out.cap);
    ht_buf_free(&out);
    return ok ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
}

static int run(struct env *e) {
    int status = ask_proxy(e);
    if (status == OPT_EXIT_OK && e->wants_token && !*e->token) {
        cli_complain("the proxy wants the kit's token: " CLI_GIVE_A_TOKEN);
        status = OPT_EXIT_AUTH;
    }
    if (status == OPT_EXIT_OK)
        status = ask_ca(e);
    if (status == OPT_EXIT_OK && ht_buf_size(&e->ca) > 0)
        status = write_files(e);
    if (status != OPT_EXIT_OK)
        return status;
    int rc = make_proxy(e);
    if (rc == HT_OK)
        rc = make_no_proxy(e);
    if (rc < 0) {
        cli_complain("%s", ht_err_text(rc));
        return OPT_EXIT_FAILURE;
    }
    return print(e);
}

static int begin(struct env *e, const struct opt_env *o, struct ht_errmsg *err) {
    e->o = o;
    e->access = (struct cli_access)CLI_ACCESS(*o);
    return cli_access(&e->access, e->token, err);
}

int cmd_env(int argc, char **argv) {
    struct opt_env o;
    struct ht_errmsg err;
    int rc = opt_env_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_ENV, &err);
    CLI_PROXY(o);
    struct env *e = ht_calloc(1, sizeof *e);
    int status = OPT_EXIT_FAILURE;
    if (!e) {
        cli_complain("%s", ht_err_text(HT_ENOMEM));
    } else if (begin(e, &o, &err) < 0) {
        cli_complain("%s", err.text);
        status = OPT_EXIT_CONFIG;
    } else {
        status = run(e);
    }
    if (e) {
        explicit_bzero(e->token, sizeof e->token);
        if (e->proxy.data)
            explicit_bzero(e->proxy.data, e->proxy.cap);
        ht_buf_free(&e->proxy);
        ht_buf_free(&e->no_proxy);
        ht_buf_free(&e->ca);
        ht_free(e);
    }
    opt_env_free(&o);
    return status;
}
