/*
 * Live connections: HAProxy's maps keep new requests out, and what was let in before goes on. What a change of the maps
 * forbids is looked for in the list of what each process of HAProxy serves, and ended.
 */
#include "edge/hooks_table.h"
#include "edge/listed.h"

#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"

#include <stdio.h>
#include <stdlib.h>

#define LOOK_MS 1000    /* a request that was let in before the change may come to be served after the first look */
#define LOOKS_FAILED 50 /* a master that loads anew answers nobody for a moment */
#define AGAIN_MS 200    /* after one that has left some to end by themselves, or has failed */
#define QUIET_MS 500    /* after one that has left nobody */
#define SETTLED_MS 150  /* listed for so long, a request is not about to end by itself */
#define OPEN "open"     /* permissions that let everybody in */
#define OLD_MAX 64      /* processes from before reloads */

/* What has changed. The key says how much: a project, a container, a service, a host. */
struct cut {
    struct ht_list node;
    enum haproxy_map map;
    unsigned failed;
    bool told;        /* HAProxy has the change: who comes from now on comes by it */
    uint64_t since;   /* of the first look, ms; 0: none yet */
    uint64_t process; /* that served when it was looked for first there; 0: none yet */
    uint32_t newest;  /* request of that process at that time: later ones came by the new maps */
    char *forwards;   /* where hooks that are no more led to; NULL: it is not about those */
    char key[EDGE_HOST];
    char was[]; /* the value, of what has moved */
};

/* Connections that are to end: to an address, and at it to a port or to all. */
struct target {
    char ip[IO_ADDR_TEXT];
    unsigned port; /* 0: all */
    enum { ANY, PLAIN, BY_TLS } how;
    const struct cut *cut;
};

static void free_cut(struct cut *c) {
    ht_free(c->forwards);
    ht_free(c);
}

struct edge_sessions {
    struct io_loop *loop;
    struct edge_admin *worker, *master;
    struct edge_maps *maps;
    struct ht_list cuts;
    struct target *targets;
    size_t n_targets, cap_targets;
    const struct cut *cut;                /* that targets are being added for */
    struct edge_listed_set found, before; /* by the present look, and by the last one */
    bool looking, failed, left, young;    /* young: some were left to end by themselves */
    uint64_t old[OLD_MAX];
    size_t n_old, at_old; /* at_old counts from 1; 0: the process that serves now */
    struct io_timer again;
};

/* ---- what is to end ---- */

static bool is_policy(enum haproxy_map map) {
    return map == HAPROXY_MAP_PROJECT_POLICIES || map == HAPROXY_MAP_CONTAINER_POLICIES;
}

/* A field of a value. */
static struct ht_slice field_of(const char *value, int field) {
    for (; field > 0 && value; field--)
        value = strchr(value, '|') ? strchr(value, '|') + 1 : NULL;
    return ht_slice_of(value, value ? strcspn(value, "|") : 0);
}

/* Whether who came by an alias may come no more, or not to the same place. A later end of it changes nothing for them.
 */
static bool is_led_elsewhere(const char *was, const char *now) {
    bool led = !ht_slice_is(field_of(was, HAPROXY_HOSTS_MODE), "off") &&
               !ht_slice_is(field_of(was, HAPROXY_HOSTS_MODE), "expired");
    bool same = now != NULL;
    for (int i = 0; i < HAPROXY_HOSTS_FIELDS; i++)
        same = same && (i == HAPROXY_HOSTS_UNTIL || i == HAPROXY_HOSTS_ALIAS ||
                        ht_slice_eq(field_of(was, i), field_of(now, i)));
    return led && !same;
}

/* Where hooks lead to, as an entry of the map says it: ids of containers with commas between. NULL: nowhere. */
static const char *forwards_of(const char *value) {
    const char *at = value ? strchr(value, '|') : NULL;
    return at && at[1] != '-' ? at + 1 : NULL;
}

static bool leads_elsewhere(const char *was, const char *now) {
    const char *before = forwards_of(was), *after = forwards_of(now);
    return before && (!after || strcmp(before, after) != 0);
}

static void on_changed(void *ctx, enum haproxy_map map, const char *key, const char *was, const char *now) {
    struct edge_sessions *s = ctx;
    bool off = map == HAPROXY_MAP_OFF && now;
    bool moved =
        (map == HAPROXY_MAP_CONTAINERS && was) || (map == HAPROXY_MAP_HOSTS && was && is_led_elsewhere(was, now));
    bool gated = is_policy(map) && !(now && strncmp(now, OPEN, strlen(OPEN)) == 0);
    bool led = map == HAPROXY_MAP_CONTAINER_HOOKS && leads_elsewhere(was, now);
    if (!off && !moved && !gated && !led)
        return;
    struct cut *c = ht_calloc(1, sizeof *c + (moved ? strlen(was) : 0) + 1);
    if (c && led)
        c->forwards = ht_strndup(forwards_of(was), strlen(forwards_of(was)));
    if (!c || (led && !c->forwards)) {
        ht_free(c);
        ht_error("edge", "out of memory: live connections of %s go on, though it was switched off, moved or closed",
                 key);
        return;
    }
    c->map = map;
    snprintf(c->key, sizeof c->key, "%s", key);
    if (moved)
        memcpy(c->was, was, strlen(was));
    ht_list_push_back(&s->cuts, &c->node);
}

static void add_target(struct edge_sessions *s, const char *ip, const char *port, int how) {
    if (s->n_targets == s->cap_targets) {
        size_t cap = s->cap_targets ? s->cap_targets * 2 : 16;
        struct target *more = ht_realloc(s->targets, cap * sizeof *more);
        if (!more)
            return; /* it is looked for again */
        s->targets = more;
        s->cap_targets = cap;
    }
    struct target *t = &s->targets[s->n_targets++];
    snprintf(t->ip, sizeof t->ip, "%s", ip);
    t->port = port ? (unsigned)strtoul(port, NULL, 10) : 0;
    t->how = how;
    t->cut = s->cut;
}

/* Those who came by a hook of a container are where it leads to. `project` is that of the container. */
static void add_forwards(struct edge_sessions *s, const char *project, const char *container) {
    const char *ids = forwards_of(edge_maps_get(s->maps, HAPROXY_MAP_CONTAINER_HOOKS, container));
    for (; ids && strlen(ids) >= EDGE_ID; ids += EDGE_ID + (ids[EDGE_ID] == ',')) {
        char key[EDGE_SCOPE];
        snprintf(key, sizeof key, "%.*s-%.*s", EDGE_ID, project, EDGE_ID, ids);
        const char *ip = edge_maps_get(s->maps, HAPROXY_MAP_CONTAINERS, key);
        if (ip)
            add_target(s, ip, NULL, ANY);
    }
}

struct of_cut {
    struct edge_sessions *s;
    const struct cut *c;
};

/* Of hooks that are no more, the container may be no more either. */
static int add_led(void *ctx, const char *key, const char *value) {
    const struct of_cut *o = ctx;
    if (strstr(o->c->forwards, key + EDGE_ID + 1))
        add_target(o->s, value, NULL, ANY);
    return 0;
}

struct of_project {
    struct edge_sessions *s;
    const char *project;
};

static int add_container(void *ctx, const char *key, const char *value) {
    const struct of_project *p = ctx;
    if (strncmp(key, p->project, EDGE_ID) == 0)
        add_target(p->s, value, NULL, ANY);
    return 0;
}

/* Who was let in by older permissions may not be any more: all of them have to ask again. A project's permissions do
 * not hold for containers with their own. */
static int add_gated(void *ctx, const char *key, const char *value) {
    const struct of_project *p = ctx;
    const char *container = key + EDGE_ID + 1;
    bool own = edge_maps_get(p->s->maps, HAPROXY_MAP_CONTAINER_POLICIES, container) != NULL;
    if (strcmp(container, p->project) == 0 || (strncmp(key, p->project, EDGE_ID) == 0 && !own)) {
        add_target(p->s, value, NULL, ANY);
        add_forwards(p->s, key, container);
    }
    return 0;
}

static void target_service(struct edge_sessions *s, const char *key, const char *ip) {
    const char *service = key + EDGE_SCOPE;
    if (strcmp(service, "https") == 0) {
        add_target(s, ip, NULL, BY_TLS);
    } else if (strcmp(service, "http") == 0) {
        add_target(s, ip, NULL, PLAIN);
    } else {
        const char *port = edge_maps_get(s->maps, HAPROXY_MAP_SERVICES, key);
        port = port ? port : edge_maps_get(s->maps, HAPROXY_MAP_SERVICES, service);
        if (port)
            add_target(s, ip, port, ANY);
    }
}

/* Where an alias has led. HAProxy knows a connection by its address and port: one that came there by another name ends
 * as well, and may come again. */
static void target_lead(struct edge_sessions *s, const char *was) {
    char container[EDGE_SCOPE], service[EDGE_KEY], port[8];
    struct ht_slice program = field_of(was, HAPROXY_HOSTS_PROGRAM);
    snprintf(container, sizeof container, "%.*s", HT_SLICE_ARG(field_of(was, HAPROXY_HOSTS_CONTAINER)));
    snprintf(service, sizeof service, "%s.%.*s", container, HT_SLICE_ARG(program));
    snprintf(port, sizeof port, "%.*s", HT_SLICE_ARG(field_of(was, HAPROXY_HOSTS_PORT)));
    const char *ip = edge_maps_get(s->maps, HAPROXY_MAP_CONTAINERS, container);
    if (ip && edge_has_port(program))
        target_service(s, service, ip);
    else if (ip)
        add_target(s, ip, port, ht_slice_is(program, "https") ? BY_TLS : PLAIN);
}

/* A change that was taken back before HAProxy heard of it ends nothing. */
static void target_cut(struct edge_sessions *s, const struct cut *c) {
    char scope[EDGE_SCOPE];
    const char *now = edge_maps_get(s->maps, c->map, c->key);
    if (c->map == HAPROXY_MAP_CONTAINERS) {
        if (!now || strcmp(now, c->was) != 0)
            add_target(s, c->was, NULL, ANY);
        return;
    }
    if (c->map == HAPROXY_MAP_HOSTS) {
        if (is_led_elsewhere(c->was, now))
            target_lead(s, c->was);
        return;
    }
    if (c->forwards) {
        edge_maps_each(s->maps, HAPROXY_MAP_CONTAINERS, add_led, &(struct of_cut){s, c});
        return;
    }
    if (is_policy(c->map)) {
        edge_maps_each(s->maps, HAPROXY_MAP_CONTAINERS, add_gated, &(struct of_project){s, c->key});
        return;
    }
    if (!now)
        return;
    if (strlen(c->key) == EDGE_ID) {
        edge_maps_each(s->maps, HAPROXY_MAP_CONTAINERS, add_container, &(struct of_project){s, c->key});
        return;
    }
    snprintf(scope, sizeof scope, "%.*s", EDGE_SCOPE - 1, c->key);
    const char *ip = edge_maps_get(s->maps, HAPROXY_MAP_CONTAINERS, scope);
    if (ip && strlen(c->key) < EDGE_SCOPE)
        add_target(s, ip, NULL, ANY);
    else if (ip)
        target_service(s, c->key, ip);
    add_forwards(s, scope, scope + EDGE_ID + 1);
}

static int by_ip(const void *a, const void *b) {
    return strcmp(((const struct target *)a)->ip, ((const struct target *)b)->ip);
}

/* The targets are sorted: a project may have thousands of them. */
static bool is_condemned(const struct edge_sessions *s, const struct edge_listed *l) {
    struct target key;
    snprintf(key.ip, sizeof key.ip, "%s", l->ip);
    const struct target *t = s->n_targets ? bsearch(&key, s->targets, s->n_targets, sizeof key, by_ip) : NULL;
    while (t && t > s->targets && by_ip(t - 1, &key) == 0)
        t--;
    for (; t && t < s->targets + s->n_targets && by_ip(t, &key) == 0; t++)
        if ((!t->port || t->port == l->port) && (t->how == ANY || t->how == (l->tls ? BY_TLS : PLAIN)) &&
            (t->cut->process != l->process || !edge_listed_newer(l->number, t->cut->newest)))
            return true;
    return false;
}

/* ---- one look at all processes ---- */

static void next_process(struct edge_sessions *s);

static void to_process(const struct edge_sessions *s, char out[32]) {
    out[0] = '\0';
    if (s->at_old)
        snprintf(out, 32, "@!%llu ", (unsigned long long)s->old[s->at_old - 1]);
}

static void tell(struct edge_sessions *s, struct ht_slice commands, edge_admin_done *done) {
    if (edge_admin_send(s->at_old ? s->master : s->worker, commands, done, s) == HT_OK)
        return;
    s->failed = true;
    next_process(s);
}

static void on_ended(void *ctx, int rc, const struct edge_answer *a) {
    struct edge_sessions *s = ctx;
    (void)a;
    if (s->left)
        return;
    s->failed = s->failed || rc < 0;
    next_process(s);
}

/* Adds a command for a request. False: it does not fit, and is found again by the next look. */
static bool add_command(const struct edge_sessions *s, struct ht_buf *line, const char *what,
                        const struct edge_listed *l) {
    char to[32];
    to_process(s, to);
    return ht_buf_size(line) < EDGE_ADMIN_LINE - 100 &&
           ht_buf_printf(line, "%s%s%s %s", ht_buf_size(line) ? ";" : "", to, what, l->name) == HT_OK;
}

static struct ht_slice text_of(const struct edge_answer *a) { return a ? a->text : ht_slice_of(NULL, 0); }

static uint64_t process_of(const struct edge_sessions *s, const struct edge_answer *a) {
    return s->at_old ? s->old[s->at_old - 1] : a ? a->pid : 0;
}

/* Those that were to end, looked at by their names: what has taken the place of one has another number. */
static void on_seen(void *ctx, int rc, const struct edge_answer *a) {
    struct edge_sessions *s = ctx;
    struct ht_buf line = {0};
    struct ht_slice text = text_of(a);
    struct edge_listed l;
    unsigned n = 0;
    if (s->left)
        return;
    while (edge_listed_next(&text, process_of(s, a), &l)) {
        if (!edge_listed_find(&s->found, &l) || !is_condemned(s, &l))
            continue;
        if (add_command(s, &line, "shutdown session", &l))
            n++;
        else
            s->failed = true;
    }
    s->failed = s->failed || rc < 0;
    if (n) {
        ht_info("edge", "%u live connections to what was switched off or moved are ended", n);
        tell(s, ht_buf_slice(&line), on_ended);
    } else {
        next_process(s);
    }
    ht_buf_free(&line);
}

/* The newest request is about the one that carried this list. */
static void mark_newest(struct edge_sessions *s, uint64_t process, struct ht_slice text) {
    struct edge_listed l;
    uint32_t newest = 0;
    for (bool any = false; edge_listed_next(&text, process, &l); any = true)
        newest = any && !edge_listed_newer(l.number, newest) ? newest : l.number;
    HT_LIST_FOR (it, &s->cuts) {
        struct cut *c = HT_LIST_ENTRY(it, struct cut, node);
        if (!c->since || c->process == process)
            continue;
        c->process = process;
        c->newest = newest;
    }
}

static void on_listed(void *ctx, int rc, const struct edge_answer *a) {
    struct edge_sessions *s = ctx;
    struct ht_buf line = {0};
    struct ht_slice text = text_of(a);
    struct edge_listed l;
    uint64_t now = io_now_ms(s->loop), process = process_of(s, a);
    if (s->left)
        return;
    if (rc == HT_OK && !s->at_old)
        mark_newest(s, process, text);
    while (edge_listed_next(&text, process, &l)) {
        if (!is_condemned(s, &l))
            continue;
        const struct edge_listed *before = edge_listed_find(&s->before, &l);
        l.since = before ? before->since : now;
        bool about_to_end = !l.old && now - l.since < SETTLED_MS;
        s->young = s->young || about_to_end;
        if (edge_listed_add(&s->found, &l) < 0 || (!about_to_end && !add_command(s, &line, "show sess", &l)))
            s->failed = true;
    }
    s->failed = s->failed || rc < 0;
    edge_listed_sort(&s->found);
    if (ht_buf_size(&line))
        tell(s, ht_buf_slice(&line), on_seen);
    else
        next_process(s);
    ht_buf_free(&line);
}

static void list_process(struct edge_sessions *s) {
    char line[64], to[32];
    to_process(s, to);
    snprintf(line, sizeof line, "%sshow sess all", to);
    tell(s, ht_slice_str(line), on_listed);
}

static void over(struct edge_sessions *s) {
    struct edge_listed_set was = s->before;
    s->before = s->found;
    s->found = was;
    s->found.n = 0;
    bool fresh = false; /* a change came meanwhile */
    s->looking = false;
    HT_LIST_FOR_SAFE (it, &s->cuts) {
        struct cut *c = HT_LIST_ENTRY(it, struct cut, node);
        fresh = fresh || (c->told && !c->since);
        if (!c->since)
            continue;
        c->failed += s->failed;
        bool done = !s->failed && !s->young && io_now_ms(s->loop) - c->since >= LOOK_MS;
        if (done || c->failed >= LOOKS_FAILED) {
            if (c->failed >= LOOKS_FAILED)
                ht_error("edge",
                         "HAProxy does not list its connections: those to %s may go on, though it was switched "
                         "off or moved",
                         c->key);
            ht_list_remove(&c->node);
            free_cut(c);
        }
    }
    if (!ht_list_empty(&s->cuts)) {
        io_timer_set(&s->again, fresh ? 0 : s->young || s->failed ? AGAIN_MS : QUIET_MS);
    } else {
        edge_listed_free(&s->before);
        edge_listed_free(&s->found);
    }
}

static void next_process(struct edge_sessions *s) {
    if (s->at_old++ == s->n_old)
        over(s);
    else
        list_process(s);
}

/* "# old workers", and a line for each that begins with its number. */
static void on_processes(void *ctx, int rc, const struct edge_answer *a) {
    struct edge_sessions *s = ctx;
    static const char heading[] = "# old workers\n";
    if (s->left)
        return;
    s->n_old = 0;
    s->failed = rc < 0;
    const char *at = rc == HT_OK ? memmem(a->text.p, a->text.n, heading, sizeof heading - 1) : NULL;
    const char *end = at ? a->text.p + a->text.n : NULL;
    at = at ? at + sizeof heading - 1 : NULL;
    while (at && at < end && ht_is_digit(*at) && s->n_old < OLD_MAX) {
        s->old[s->n_old] = 0;
        for (; at < end && ht_is_digit(*at); at++)
            s->old[s->n_old] = s->old[s->n_old] * 10 + (uint64_t)(*at - '0');
        s->n_old++;
        at = memchr(at, '\n', (size_t)(end - at));
        at = at ? at + 1 : NULL;
    }
    s->at_old = 0;
    list_process(s);
}

static void look(struct edge_sessions *s) {
    if (s->looking || ht_list_empty(&s->cuts))
        return;
    s->n_targets = 0;
    HT_LIST_FOR (it, &s->cuts) {
        struct cut *c = HT_LIST_ENTRY(it, struct cut, node);
        if (!c->told)
            continue;
        c->since = c->since ? c->since : io_now_ms(s->loop);
        s->cut = c;
        target_cut(s, c);
    }
    s->failed = s->young = false;
    if (s->n_targets == 0) {
        over(s);
        return;
    }
    qsort(s->targets, s->n_targets, sizeof *s->targets, by_ip);
    s->looking = edge_admin_send(s->master, ht_slice_str("show proc"), on_processes, s) == HT_OK;
    if (!s->looking)
        io_timer_set(&s->again, AGAIN_MS);
}

static void on_again(struct io_timer *t) { look(ht_container_of(t, struct edge_sessions, again)); }

static void on_settled(void *ctx) {
    struct edge_sessions *s = ctx;
    bool fresh = false;
    HT_LIST_FOR (it, &s->cuts) {
        struct cut *c = HT_LIST_ENTRY(it, struct cut, node);
        fresh = fresh || !c->told;
        c->told = true;
    }
    if (fresh) /* the others have their time */
        look(s);
}

/* ---- life ---- */

struct edge_sessions *edge_sessions_create(struct io_loop *loop, const char *folder, struct edge_admin *admin,
                                           struct edge_maps *maps) {
    static const struct edge_maps_ops ops = {.changed = on_changed, .settled = on_settled};
    struct edge_sessions *s = ht_calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->loop = loop;
    s->worker = admin;
    s->maps = maps;
    ht_list_init(&s->cuts);
    io_timer_init(loop, &s->again, on_again);
    s->master = edge_admin_create(loop, folder, EDGE_ADMIN_OF_MASTER);
    if (!s->master) {
        edge_sessions_destroy(&s);
        return NULL;
    }
    edge_maps_watch(maps, &ops, s);
    return s;
}

void edge_sessions_leave(struct edge_sessions *s) {
    if (!s)
        return;
    s->left = true;
    io_timer_stop(&s->again);
    edge_maps_watch(s->maps, NULL, NULL);
    edge_admin_destroy(&s->master);
}

void edge_sessions_destroy(struct edge_sessions **sp) {
    struct edge_sessions *s = *sp;
    struct ht_list *node;
    *sp = NULL;
    if (!s)
        return;
    edge_sessions_leave(s);
    while ((node = ht_list_pop_front(&s->cuts)))
        free_cut(HT_LIST_ENTRY(node, struct cut, node));
    edge_listed_free(&s->before);
    edge_listed_free(&s->found);
    ht_free(s->targets);
    ht_free(s);
}
