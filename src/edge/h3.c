/*
 * HTTP/3. HAProxy does it itself when it can. Otherwise Caddy stands beside it: it ends QUIC, and hands each request to
 * a Unix socket that nobody else reaches, with the visitor's address in a field. What is sent to visitors about it
 * (Alt-Svc) is in the map `site` only while a server of QUIC answers.
 */
#include "edge/edge_priv.h"
#include "edge/look.h"

#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONFIG "haproxy/caddy.json"
#define LOOK_MS 50        /* between two looks whether the answer is there */
#define ANSWER_MS 1000    /* for an answer */
#define ASK_SOON_MS 200   /* until the next question, while there was no answer */
#define ASK_AGAIN_MS 5000 /* once there was one */
#define MISSED_MAX 2      /* answers that may be missing in a row: a packet can be lost */
#define AGAIN_MIN_MS 500  /* until Caddy is started again */
#define AGAIN_MAX_MS 30000
#define STEADY_MS 10000
#define STOP_MS 3000

struct edge_h3 {
    struct edge_h3_config cfg;
    char caddy[EDGE_PROGRAM], config[EDGE_PATH];
    struct io_program *program; /* Caddy; NULL: it waits for its next start, or HAProxy does it itself */
    struct io_timer ask, again;
    bool answers, renews;
    uint64_t shown; /* which certificates Caddy has */
    int fd;         /* of a question, or -1 */
    unsigned missed;
    uint64_t asked, started, again_ms;
};

static void start_caddy(struct edge_h3 *h);

/* ---- whether it answers ---- */

static void set_answers(struct edge_h3 *h, bool answers) {
    char port[8];
    if (h->answers == answers)
        return;
    h->answers = answers;
    snprintf(port, sizeof port, "%u", h->cfg.port);
    if (!answers)
        edge_maps_remove(h->cfg.maps, HAPROXY_MAP_SITE, HAPROXY_HTTP3_KEY);
    else if (edge_maps_set(h->cfg.maps, HAPROXY_MAP_SITE, HAPROXY_HTTP3_KEY, port) < 0)
        ht_error("edge", "out of memory");
    ht_info("edge",
            answers ? "HTTP/3 answers at port %u, and visitors are told so"
                    : "HTTP/3 does not answer at port %u, and visitors are no longer told of it",
            h->cfg.port);
}

static void drop_question(struct edge_h3 *h) {
    if (h->fd >= 0)
        close(h->fd);
    h->fd = -1;
}

static void no_answer(struct edge_h3 *h) {
    drop_question(h);
    if (++h->missed >= MISSED_MAX)
        set_answers(h, false);
    io_timer_set(&h->ask, ASK_SOON_MS);
}

static void on_ask(struct io_timer *t) {
    struct edge_h3 *h = ht_container_of(t, struct edge_h3, ask);
    if (h->fd < 0) {
        h->asked = io_now_ms(h->cfg.loop);
        h->fd = edge_quic_ask(h->cfg.port);
        if (h->fd < 0)
            no_answer(h);
        else
            io_timer_set(t, LOOK_MS);
    } else if (edge_quic_answered(h->fd)) {
        drop_question(h);
        h->missed = 0;
        set_answers(h, true);
        io_timer_set(t, ASK_AGAIN_MS);
    } else if (io_now_ms(h->cfg.loop) - h->asked > ANSWER_MS) {
        no_answer(h);
    } else {
        io_timer_set(t, LOOK_MS);
    }
}

/* ---- Caddy ---- */

static uint64_t hash_file(const char *path) {
    uint64_t hash = HT_HASH;
    char bytes[4096];
    ssize_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    while (fd >= 0 && (n = read(fd, bytes, sizeof bytes)) > 0)
        for (ssize_t i = 0; i < n; i++)
            hash = ht_hash_char(hash, bytes[i]);
    explicit_bzero(bytes, sizeof bytes);
    if (fd >= 0)
        close(fd);
    return hash;
}

/* Another number when a certificate or key is another one; in whatever order the files come. */
static uint64_t hash_certificates(const char *folder) {
    char path[EDGE_PATH], file[EDGE_PATH + NAME_MAX + 2];
    uint64_t sum = 0;
    DIR *d = opendir(edge_path(folder, "certs", path));
    for (const struct dirent *entry; d && (entry = readdir(d));) {
        const char *end = strrchr(entry->d_name, '.');
        if (!end || strcmp(end, ".pem") != 0)
            continue;
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        sum += hash_file(file);
    }
    if (d)
        closedir(d);
    return sum;
}

static int write_config(struct edge_h3 *h, struct ht_errmsg *err) {
    static const char text[] =
        "{\"admin\":{\"listen\":\"unix/%s/run/caddy.sock\",\"config\":{\"persist\":false}},\n"
        " \"logging\":{\"logs\":{\"default\":{\"writer\":{\"output\":\"stderr\"},\"level\":\"ERROR\"}}},\n"
        " \"storage\":{\"module\":\"file_system\",\"root\":\"%s/caddy\"},\n"
        " \"apps\":{\"tls\":{\"disable_ocsp_stapling\":true,\"certificates\":{\"load_folders\":[\"%s/certs\"]}},\n"
        "  \"http\":{\"grace_period\":1000000000,\"servers\":{\"edge\":{\"listen\":[\":%u\"],\"protocols\":[\"h3\"],\n"
        "   \"tls_connection_policies\":[{}],\"automatic_https\":{\"disable\":true},\"routes\":[{\"handle\":[\n"
        "   {\"handler\":\"reverse_proxy\",\"upstreams\":[{\"dial\":\"unix/%s/" HAPROXY_HTTP3_SOCKET "\"}],\n"
        "    \"headers\":{\"request\":{\"set\":{\"" HAPROXY_HTTP3_HEADER "\":[\"{http.request.remote.host}\"]}},\n"
        "               \"response\":{\"delete\":[\"Server\"]}},\n"
        "    \"transport\":{\"protocol\":\"http\",\"compression\":false,"
        "\"keep_alive\":{\"max_idle_conns_per_host\":256}},\n"
        "    \"flush_interval\":-1}]}]}}}}}\n";
    const char *folder = h->cfg.folder;
    struct ht_buf b = {0};
    int rc = ht_buf_printf(&b, text, folder, folder, folder, h->cfg.port, folder);
    if (rc < 0)
        ht_fail(err, rc, "out of memory");
    else
        rc = edge_folder_write(folder, CONFIG, ht_buf_slice(&b), false, err);
    ht_buf_free(&b);
    return rc;
}

/* JSON, a line each. What it says while it starts and loads anew is no warning. */
static void on_said(void *ctx, struct ht_slice line) {
    static const char info[] = "{\"level\":\"info\"";
    bool quiet = line.n > sizeof info && memcmp(line.p, info, sizeof info - 1) == 0;
    (void)ctx;
    ht_log_with(quiet ? HT_LOG_DEBUG : HT_LOG_WARN, "edge", HT_LOG_FIELDS(log_reason_slice(line)), "Caddy says");
}

static void on_ended(void *ctx, int status, const char *text) {
    struct edge_h3 *h = ctx;
    (void)status;
    h->program = NULL;
    io_timer_stop(&h->ask);
    drop_question(h);
    set_answers(h, false);
    if (h->renews) {
        h->renews = false;
        io_timer_set(&h->again, 0);
        return;
    }
    if (io_now_ms(h->cfg.loop) - h->started > STEADY_MS)
        h->again_ms = AGAIN_MIN_MS;
    ht_log_with(HT_LOG_ERROR, "edge", HT_LOG_FIELDS(log_reason(text), log_wait_ms(h->again_ms)),
                "Caddy has ended, and is started again; there is no HTTP/3 meanwhile");
    io_timer_set(&h->again, h->again_ms);
    h->again_ms = ht_min64(h->again_ms * 2, AGAIN_MAX_MS);
}

static void on_again(struct io_timer *t) { start_caddy(ht_container_of(t, struct edge_h3, again)); }

/* Somebody else's server at that port would answer for ours, so it is not started beside one. */
static void start_caddy(struct edge_h3 *h) {
    static const struct io_program_ops ops = {.said = on_said, .ended = on_ended};
    const char *const argv[] = {h->caddy, "run", "--config", h->config, NULL};
    struct ht_errmsg err;
    int why = edge_look_port(AF_INET, SOCK_DGRAM, h->cfg.port);
    h->started = io_now_ms(h->cfg.loop);
    h->shown = hash_certificates(h->cfg.folder);
    if (why != 0) {
        char text[128];
        snprintf(text, sizeof text, "UDP port %u: %s", h->cfg.port, strerror(why));
        on_ended(h, -1, text);
        return;
    }
    h->program = io_program_start(h->cfg.loop, argv, &ops, h, &err);
    if (!h->program)
        on_ended(h, -1, err.text);
    else
        io_timer_set(&h->ask, ASK_SOON_MS);
}

/* A configuration that is loaded anew leaves Caddy 2.6 with the certificates that its QUIC has begun with. */
void edge_h3_reload(struct edge_h3 *h) {
    if (!h || !h->program || hash_certificates(h->cfg.folder) == h->shown)
        return;
    h->renews = true;
    io_program_signal(h->program, SIGTERM);
}

/* ---- beginning and end ---- */

struct edge_h3 *edge_h3_start(const struct edge_h3_config *cfg, struct ht_errmsg *err) {
    struct edge_h3 *h = ht_calloc(1, sizeof *h);
    if (!h) {
        ht_fail(err, HT_ENOMEM, "out of memory");
        return NULL;
    }
    h->cfg = *cfg;
    h->fd = -1;
    h->again_ms = AGAIN_MIN_MS;
    io_timer_init(cfg->loop, &h->ask, on_ask);
    io_timer_init(cfg->loop, &h->again, on_again);
    edge_path(cfg->folder, CONFIG, h->config);
    if (cfg->native) {
        io_timer_set(&h->ask, ASK_SOON_MS);
        return h;
    }
    int rc = edge_look_program(HAPROXY_HTTP3_PROGRAM, h->caddy)
                 ? write_config(h, err)
                 : ht_fail(err, HT_EIO,
                           "HTTP/3: this HAProxy has no QUIC, and Caddy, which does it then, is missing: install the "
                           "package %s (apt-get install %s)",
                           HAPROXY_HTTP3_PROGRAM, HAPROXY_HTTP3_PROGRAM);
    if (rc < 0)
        edge_h3_stop(&h);
    else
        start_caddy(h);
    return h;
}

void edge_h3_stop(struct edge_h3 **hp) {
    struct edge_h3 *h = *hp;
    *hp = NULL;
    if (!h)
        return;
    io_timer_stop(&h->ask);
    io_timer_stop(&h->again);
    drop_question(h);
    io_program_stop(&h->program, STOP_MS);
    ht_free(h);
}
