/* HAProxy as a program: found, looked at, started, loaded anew, ended, and started again when it has ended by itself.
 */
#include "edge/edge_priv.h"
#include "edge/look.h"

#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define LOOK_MS 20        /* between two questions whether it serves already */
#define LOOK_LONG_MS 200  /* and when somebody else starts it, and has not for a while */
#define PATIENCE_MS 15000 /* for it to serve */
#define STOP_MS 5000
#define AGAIN_MIN_MS 200
#define AGAIN_MAX_MS 10000
#define STEADY_MS 10000 /* after which its end is no longer one of a row */
#define WHY 400

enum engine_state {
    ENGINE_ASKED,  /* for its version */
    ENGINE_CHECKS, /* the configuration, before it is loaded anew */
    ENGINE_STARTS, /* it does not serve yet, or not yet with the new configuration */
    ENGINE_SERVES, /* it serves */
    ENGINE_WAITS,  /* it has ended, and is started again after a while */
    ENGINE_FAILED,
};

struct edge_engine {
    struct edge_engine_config cfg;
    enum engine_state state;
    char program[EDGE_PROGRAM], config[EDGE_PATH], master_at[EDGE_PATH + 16];
    struct io_program *side;      /* that prints its version, or checks the configuration */
    struct io_program *master;    /* the real one; NULL: it is somebody else's, or there is none */
    struct edge_admin *to_master; /* of somebody else's */
    struct io_timer look, again;
    uint64_t since, again_ms, old_pid;
    unsigned generation;
    bool served, reload_wanted, looking, quic, told_missing;
    char why[WHY]; /* its last complaint */
    char version[64];
};

static void start_master(struct edge_engine *g);

/* ---- finding it ---- */

static int find(struct edge_engine *g, struct ht_errmsg *err) {
    if (g->cfg.program) {
        snprintf(g->program, sizeof g->program, "%s", g->cfg.program);
        if (strchr(g->program, '/') && access(g->program, X_OK) == 0)
            return HT_OK;
        return ht_fail(err, HT_EINVAL, "--haproxy %s: there is no such program; give its path", g->cfg.program);
    }
    if (edge_look_program(HAPROXY_PROGRAM, g->program))
        return HT_OK;
    return ht_fail(
        err, HT_EIO,
        "HAProxy is missing: install the package %s (apt-get install %s), at least version %d.%d, or name the "
        "program with --haproxy",
        HAPROXY_PACKAGE, HAPROXY_PACKAGE, HAPROXY_VERSION_MAJOR, HAPROXY_VERSION_MINOR);
}

/* ---- what it says ---- */

static void fail(struct edge_engine *g, const char *text) {
    g->state = ENGINE_FAILED;
    io_timer_stop(&g->look);
    g->cfg.ops->failed(g->cfg.ctx, text);
}

/* "[ALERT]    (123) : config : ..." */
static void said(void *ctx, struct ht_slice line) {
    struct edge_engine *g = ctx;
    static const char alert[] = "[ALERT]", warning[] = "[WARNING]";
    bool bad = line.n > sizeof alert && memcmp(line.p, alert, sizeof alert - 1) == 0;
    bool odd = line.n > sizeof warning && memcmp(line.p, warning, sizeof warning - 1) == 0;
    const char *colon = memchr(line.p, ':', line.n);
    struct ht_slice text = colon ? ht_slice_of(colon + 1, line.n - (size_t)(colon + 1 - line.p)) : line;
    while (text.n && *text.p == ' ')
        text = ht_slice_of(text.p + 1, text.n - 1);
    if (bad && (!g->why[0] || g->state == ENGINE_SERVES))
        snprintf(g->why, sizeof g->why, "%.*s", (int)ht_min(text.n, sizeof g->why - 1), text.p);
    bool expected = g->state == ENGINE_STARTS && !g->served; /* then fail() tells it */
    enum ht_log_level level = bad && !expected ? HT_LOG_ERROR : odd ? HT_LOG_WARN : HT_LOG_DEBUG;
    ht_log_with(level, "edge", HT_LOG_FIELDS(log_reason_slice(text)), "HAProxy says");
}

/* ---- it serves ---- */

static void serves(struct edge_engine *g) {
    g->state = ENGINE_SERVES;
    g->served = true;
    g->since = io_now_ms(g->cfg.loop);
    io_timer_stop(&g->look);
    g->cfg.ops->serves(g->cfg.ctx, g->version);
    if (g->reload_wanted)
        edge_engine_reload(g);
}

static void on_looked(void *ctx, int rc, const struct edge_answer *a) {
    struct edge_engine *g = ctx;
    g->looking = false;
    if (g->state != ENGINE_STARTS || rc == HT_ECLOSED)
        return;
    if (rc == HT_OK && a->pid != g->old_pid) {
        snprintf(g->version, sizeof g->version, "%s", a->version);
        /* It has gone on since another agent, or started before this one had written all. */
        g->reload_wanted =
            g->reload_wanted || (g->cfg.external && g->old_pid == 0 && strcmp(a->revision, g->cfg.revision) != 0);
        serves(g);
    }
}

static void look(struct io_timer *t) {
    struct edge_engine *g = ht_container_of(t, struct edge_engine, look);
    bool long_ago = io_now_ms(g->cfg.loop) - g->since > PATIENCE_MS;
    if (long_ago && g->cfg.external && !g->served) {
        if (!g->told_missing)
            ht_error("edge", "HAProxy does not answer at %s/run/admin.sock; its unit is to start it", g->cfg.folder);
        g->told_missing = true;
    } else if (long_ago) {
        if (g->served) { /* a reload that did not come about: the old one goes on */
            ht_error("edge", "HAProxy did not load its configuration anew: %s",
                     g->why[0] ? g->why : "it does not say why");
            g->old_pid = 0;
            serves(g);
        } else {
            fail(g, "HAProxy was started and does not answer");
        }
        return;
    }
    if (!g->looking)
        g->looking = edge_admin_send(g->cfg.admin, ht_slice_of("", 0), on_looked, g) == HT_OK;
    io_timer_set(t, g->told_missing ? LOOK_LONG_MS : LOOK_MS);
}

static void starts(struct edge_engine *g, uint64_t old_pid) {
    g->state = ENGINE_STARTS;
    g->since = io_now_ms(g->cfg.loop);
    g->old_pid = old_pid;
    g->why[0] = '\0';
    g->cfg.ops->starts(g->cfg.ctx);
    io_timer_set(&g->look, LOOK_MS);
}

/* ---- it starts, and ends ---- */

static void on_master_ended(void *ctx, int status, const char *text) {
    struct edge_engine *g = ctx;
    char why[WHY + 128];
    g->master = NULL;
    (void)status;
    snprintf(why, sizeof why, "%s%s%s", text, g->why[0] ? ": " : "", g->why);
    io_timer_stop(&g->look);
    if (!g->served) {
        char whole[WHY + 256];
        snprintf(whole, sizeof whole, "HAProxy does not start: %s", why);
        fail(g, whole);
        return;
    }
    if (g->state == ENGINE_SERVES && io_now_ms(g->cfg.loop) - g->since > STEADY_MS)
        g->again_ms = AGAIN_MIN_MS;
    ht_log_with(HT_LOG_ERROR, "edge", HT_LOG_FIELDS(log_reason(why), log_wait_ms(g->again_ms)),
                "HAProxy has ended, and is started again");
    g->state = ENGINE_WAITS;
    g->cfg.ops->starts(g->cfg.ctx);
    io_timer_set(&g->again, g->again_ms);
    g->again_ms = ht_min64(g->again_ms * 2, AGAIN_MAX_MS);
}

static void start_master(struct edge_engine *g) {
    static const struct io_program_ops ops = {.said = said, .ended = on_master_ended};
    const char *const argv[] = {g->program, "-W", "-S", g->master_at, "-f", g->config, NULL};
    struct ht_errmsg err;
    starts(g, 0);
    g->master = io_program_start(g->cfg.loop, argv, &ops, g, &err);
    if (!g->master)
        fail(g, err.text);
}

static void on_again(struct io_timer *t) { start_master(ht_container_of(t, struct edge_engine, again)); }

/* ---- its version ---- */

static void on_version_line(void *ctx, struct ht_slice line) {
    struct edge_engine *g = ctx;
    static const char features[] = "Feature list", quic[] = "+QUIC ";
    if (!g->version[0])
        snprintf(g->version, sizeof g->version, "%.*s", (int)ht_min(line.n, sizeof g->version - 1), line.p);
    else if (line.n > sizeof features && memcmp(line.p, features, sizeof features - 1) == 0)
        g->quic = memmem(line.p, line.n, quic, sizeof quic - 1) != NULL;
}

static void on_version_ended(void *ctx, int status, const char *text) {
    struct edge_engine *g = ctx;
    unsigned major = 0, minor = 0;
    char why[WHY];
    g->side = NULL;
    if (sscanf(g->version, "HAProxy version %u.%u", &major, &minor) != 2 &&
        sscanf(g->version, "HA-Proxy version %u.%u", &major, &minor) != 2) {
        snprintf(why, sizeof why, "%s -vv does not say which version of HAProxy it is (%s)", g->program, text);
        fail(g, why);
    } else if (major < HAPROXY_VERSION_MAJOR || (major == HAPROXY_VERSION_MAJOR && minor < HAPROXY_VERSION_MINOR)) {
        snprintf(why, sizeof why, "%s is version %u.%u; the edge needs HAProxy %d.%d or later", g->program, major,
                 minor, HAPROXY_VERSION_MAJOR, HAPROXY_VERSION_MINOR);
        fail(g, why);
    } else {
        (void)status;
        g->version[0] = '\0';
        if (g->cfg.external)
            starts(g, 0);
        else
            start_master(g);
    }
}

/* ---- loading the configuration anew ---- */

/* Its master has closed the connection, whatever it does now: look() sees what becomes of it. */
static void on_reload_told(void *ctx, int rc, const struct edge_answer *a) {
    (void)ctx;
    (void)a;
    if (rc < 0 && rc != HT_ECLOSED)
        ht_debug("edge", "HAProxy's master: %s", ht_err_text(rc));
}

static void on_checked(void *ctx, int status, const char *text) {
    struct edge_engine *g = ctx;
    g->side = NULL;
    if (status != 0) {
        ht_error("edge", "HAProxy refuses its new configuration (%s): %s; it goes on with the old one", text, g->why);
        g->state = ENGINE_SERVES;
        return;
    }
    uint64_t old = g->old_pid;
    starts(g, old);
    if (!g->cfg.external)
        io_program_signal(g->master, SIGUSR2);
    else if (edge_admin_send(g->to_master, ht_slice_str("reload"), on_reload_told, g) < 0)
        ht_error("edge", "out of memory: HAProxy goes on with the old configuration");
}

static void on_pid(void *ctx, int rc, const struct edge_answer *a) {
    static const struct io_program_ops ops = {.said = said, .ended = on_checked};
    struct edge_engine *g = ctx;
    struct ht_errmsg err;
    if (g->state != ENGINE_CHECKS || rc == HT_ECLOSED)
        return;
    const char *const argv[] = {g->program, "-c", "-q", "-f", g->config, NULL};
    g->old_pid = rc == HT_OK ? a->pid : 0;
    g->why[0] = '\0';
    g->side = io_program_start(g->cfg.loop, argv, &ops, g, &err);
    if (!g->side) {
        ht_error("edge", "%s", err.text);
        g->state = ENGINE_SERVES;
    }
}

void edge_engine_reload(struct edge_engine *g) {
    g->reload_wanted = g->state != ENGINE_SERVES;
    if (g->reload_wanted)
        return;
    g->state = ENGINE_CHECKS;
    if (edge_admin_send(g->cfg.admin, ht_slice_of("", 0), on_pid, g) < 0)
        g->state = ENGINE_SERVES;
}

/* ---- beginning and end ---- */

struct edge_engine *edge_engine_start(const struct edge_engine_config *cfg, struct ht_errmsg *err) {
    static const struct io_program_ops ops = {.said = on_version_line, .ended = on_version_ended};
    struct edge_engine *g = ht_calloc(1, sizeof *g);
    if (!g) {
        ht_fail(err, HT_ENOMEM, "out of memory");
        return NULL;
    }
    g->cfg = *cfg;
    g->again_ms = AGAIN_MIN_MS;
    edge_path(cfg->folder, "haproxy/haproxy.cfg", g->config);
    snprintf(g->master_at, sizeof g->master_at, "%s/" EDGE_MASTER_SOCKET ",mode,600", cfg->folder);
    io_timer_init(cfg->loop, &g->look, look);
    io_timer_init(cfg->loop, &g->again, on_again);
    if (cfg->external && !(g->to_master = edge_admin_create(cfg->loop, cfg->folder, EDGE_ADMIN_OF_MASTER))) {
        ht_fail(err, HT_ENOMEM, "out of memory");
        edge_engine_stop(&g);
        return NULL;
    }
    const char *const argv[] = {g->program, "-vv", NULL};
    if (find(g, err) < 0 || !(g->side = io_program_start(cfg->loop, argv, &ops, g, err)))
        edge_engine_stop(&g);
    return g;
}

bool edge_engine_has_quic(const struct edge_engine *g) { return g->quic; }

void edge_engine_stop(struct edge_engine **gp) {
    struct edge_engine *g = *gp;
    *gp = NULL;
    if (!g)
        return;
    io_timer_stop(&g->look);
    io_timer_stop(&g->again);
    edge_admin_destroy(&g->to_master);
    io_program_stop(&g->side, 0);
    io_program_stop(&g->master, STOP_MS);
    ht_free(g);
}
