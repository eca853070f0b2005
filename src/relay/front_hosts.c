#include "relay/front_priv.h"

#include "base/mem.h"

#include <stdio.h>

#define DRIVER_MAX (WIRE_LIMIT_NAME_LABEL - 6) /* most characters of a driver's name: "-65535" must fit behind it */

/* ---- reserved labels ---- */

static const char reserved_text[] = "\"%s\" is no name that a binding can have: status, www, api and numbers are the "
                                    "kit's own";

static bool is_reserved(const char *label) {
    static const char *const words[] = {"status", "www", "api"};
    for (size_t i = 0; i < HT_ARRAY_LEN(words); i++)
        if (strcmp(label, words[i]) == 0)
            return true;
    return label[strspn(label, "0123456789")] == '\0';
}

static bool is_below(const char *host, const char *domain) {
    size_t n = strlen(host), own = strlen(domain);
    return n >= own && strcmp(host + n - own, domain) == 0 && (n == own || host[n - own - 1] == '.');
}

/* ---- reading the hosts of a BIND ---- */

struct reading {
    const struct relay_front *f;
    const struct relay_owner *o;
    struct relay_names *hosts;
    char *at; /* where the next text is written, in the memory behind `hosts` */
    enum wire_bind_error *code;
    struct ht_errmsg *err;
};

static void add(struct reading *r, const char *host, size_t room) {
    struct relay_names *n = r->hosts;
    for (size_t i = 0; i < n->n; i++)
        if (ht_slice_is(n->texts[i], host))
            return;
    size_t len = strlen(host);
    memcpy(r->at, host, len + 1);
    n->texts[n->n++] = ht_slice_of(r->at, len);
    n->entries[n->n_entries++] = (struct relay_name){.host = r->at};
    r->at += room ? room : len + 1;
}

bool front_may_have(const struct relay_front *f, const struct relay_owner *o, const char *host, struct ht_errmsg *err) {
    return !o->ops->may_name || o->ops->may_name(o, host, f->domain, err);
}

/* Rule USER-3. */
static int may(struct reading *r, const char *host) {
    if (front_may_have(r->f, r->o, host, r->err))
        return HT_OK;
    return *r->code = WIRE_BIND_ERROR_NOT_ALLOWED, HT_EACCESS;
}

static int add_hostname(struct reading *r, struct ht_slice text) {
    char host[WIRE_HOST_ROOM];
    if (wire_domain_read(host, text, 2, r->err))
        return *r->code = WIRE_BIND_ERROR_INVALID_NAME, HT_EINVAL;
    if (is_below(host, r->f->domain))
        return RELAY_REFUSE(r, INVALID_NAME, HT_EINVAL,
                            "%s is the kit's own domain, or below it: ask for a name instead of a hostname", host);
    int rc = may(r, host);
    if (rc == HT_OK)
        add(r, host, 0);
    return rc;
}

static int add_name(struct reading *r, struct ht_slice text) {
    char label[WIRE_LABEL_ROOM], host[WIRE_HOST_ROOM];
    if (wire_label_read(label, text, r->err))
        return *r->code = WIRE_BIND_ERROR_INVALID_NAME, HT_EINVAL;
    if (is_reserved(label))
        return RELAY_REFUSE(r, INVALID_NAME, HT_EINVAL, reserved_text, label);
    snprintf(host, sizeof host, "%s.%.*s", label, (int)RELAY_DOMAIN_MAX, r->f->domain);
    int rc = may(r, host);
    if (rc == HT_OK)
        add(r, host, 0);
    return rc;
}

/* Rule HOST-1. */
static int check_driver(struct reading *r) {
    char label[WIRE_LABEL_ROOM];
    if (!r->o->name)
        return HT_OK;
    if (wire_label_read(label, ht_slice_str(r->o->name), r->err))
        return *r->code = WIRE_BIND_ERROR_INVALID_NAME, HT_EINVAL;
    if (strlen(label) > DRIVER_MAX)
        return RELAY_REFUSE(r, INVALID_NAME, HT_EINVAL,
                            "the driver's name \"%s\" has more than %d characters, and a port has to fit behind it",
                            label, (int)DRIVER_MAX);
    return HT_OK;
}

int front_hosts_read(struct relay_front *f, const struct relay_owner *o, const struct wire_bind *bind,
                     struct relay_names **out, enum wire_bind_error *code, struct ht_errmsg *err) {
    size_t n = bind->n_hostnames + 2, size = 2 * (size_t)WIRE_HOST_ROOM;
    struct reading r = {.f = f, .o = o, .code = code, .err = err};
    for (size_t i = 0; i < bind->n_hostnames; i++)
        size += bind->hostnames[i].n + 1;
    int rc = check_driver(&r);
    if (rc)
        return rc;
    struct relay_names *h = r.hosts = ht_calloc(1, sizeof *h + n * sizeof *h->entries + n * sizeof *h->texts + size);
    if (!h)
        return RELAY_REFUSE(&r, INTERNAL, HT_ENOMEM, "out of memory");
    h->entries = (struct relay_name *)(void *)(h + 1);
    h->texts = (struct ht_slice *)(void *)(h->entries + n);
    r.at = (char *)(h->texts + n);
    for (size_t i = 0; rc == HT_OK && i < bind->n_hostnames; i++)
        rc = add_hostname(&r, bind->hostnames[i]);
    if (rc == HT_OK && bind->has_name)
        rc = add_name(&r, bind->name);
    if (rc == HT_OK) {
        h->n_asked = h->n;
        add(&r, "", WIRE_HOST_ROOM);
        front_hosts_of_port(f, o, h, bind->container_port);
        if (bind->container_port)
            rc = may(&r, front_host_of_port(h)->host);
    }
    if (rc == HT_OK && relay_names_reserve(&f->hosts, h))
        rc = RELAY_REFUSE(&r, INTERNAL, HT_ENOMEM, "out of memory");
    if (rc)
        relay_names_free(&h);
    *out = h;
    return rc;
}

void front_hosts_of_port(const struct relay_front *f, const struct relay_owner *o, struct relay_names *hosts,
                         uint16_t number) {
    char label[WIRE_LABEL_ROOM], host[WIRE_HOST_ROOM];
    struct ht_errmsg err;
    if (number == 0)
        return;
    bool named = o->name && wire_label_read(label, ht_slice_str(o->name), &err) == HT_OK;
    snprintf(host, sizeof host, "%.*s%s%u.%.*s", (int)DRIVER_MAX, named ? label : "", named ? "-" : "", number,
             (int)RELAY_DOMAIN_MAX, f->domain);
    size_t at = hosts->n_entries - 1, len = strlen(host);
    char *to = (char *)(uintptr_t)hosts->entries[at].host; /* const for others only: it is in the memory of `hosts` */
    memcpy(to, host, len + 1);
    hosts->texts[at] = ht_slice_of(to, len);
    hosts->n = at + 1;
    for (size_t i = 0; i < at; i++)
        if (ht_slice_is(hosts->texts[i], host))
            hosts->n = at; /* the binding's own name is spelled like it: list the host once */
}

/* ---- drivers by name ---- */

static struct ht_list *bucket(const struct relay_front *f, struct ht_slice name) {
    uint64_t h = HT_HASH;
    for (size_t i = 0; i < name.n; i++)
        h = ht_hash_char(h, ht_lower(name.p[i]));
    return (struct ht_list *)(uintptr_t)&f->drivers[(h ^ h >> 32) % FRONT_DRIVERS];
}

static const struct relay_owner *other_called(const struct relay_front *f, const struct relay_owner *o,
                                              struct ht_slice name) {
    HT_LIST_FOR (it, bucket(f, name)) {
        const struct relay_owner *other = HT_LIST_ENTRY(it, struct relay_owner, named);
        if (other != o && ht_slice_case_eq(ht_slice_str(other->name), name) &&
            !(o->ops->same && o->ops->same(o, other)))
            return other;
    }
    return NULL;
}

const struct relay_owner *front_name_taken(const struct relay_front *f, const struct relay_owner *o,
                                           const struct wire_bind *bind) {
    const struct relay_owner *other = o->name ? other_called(f, o, ht_slice_str(o->name)) : NULL;
    if (other || !bind->has_name)
        return other;
    /* "app-3000" looks like the host of port 3000 of a driver called app. */
    size_t n = bind->name.n;
    while (n > 0 && bind->name.p[n - 1] >= '0' && bind->name.p[n - 1] <= '9')
        n--;
    bool like = n > 1 && n < bind->name.n && bind->name.p[n - 1] == '-';
    return like ? other_called(f, o, ht_slice_of(bind->name.p, n - 1)) : NULL;
}

static void owner_enter(struct relay_front *f, struct relay_owner *o) {
    if (o->name && o->n_named++ == 0)
        ht_list_push_back(bucket(f, ht_slice_str(o->name)), &o->named);
}

static void owner_leave(struct relay_owner *o) {
    if (o->name && --o->n_named == 0)
        ht_list_remove(&o->named);
}

void front_owner_moved(struct relay_front *f, struct relay_owner *from, struct relay_owner *to) {
    if (!f || from->n_named == 0)
        return;
    to->n_named = from->n_named;
    from->n_named = 0;
    ht_list_remove(&from->named);
    ht_list_push_back(bucket(f, ht_slice_str(to->name)), &to->named);
}

/* ---- the hosts of a binding ---- */

void front_set_hosts(struct relay_front *f, struct relay_binding *b, struct relay_names *hosts) {
    if (!f)
        return;
    if (b->hosts) {
        relay_names_remove(&f->hosts, b->hosts);
        b->owner->n_names -= (unsigned)b->hosts->n_asked;
        owner_leave(b->owner);
        relay_names_free(&b->hosts);
    }
    b->hosts = hosts;
    if (hosts) {
        relay_names_add(&f->hosts, hosts, b);
        b->owner->n_names += (unsigned)hosts->n_asked;
        owner_enter(f, b->owner);
    }
}
