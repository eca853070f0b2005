/*
 * Where the records of sessions are kept while the kit runs, so that one that follows a crash finds them: in the two
 * files of --state-dir, and in the service manager's store, with the sockets that listen. They are written a moment
 * after something has changed, and the older of two places each time, so that a whole one is always there.
 */
#include "kit/kit_priv.h"
#include "kit/records.h"

#include "base/log.h"
#include "base/mem.h"
#include "proc/inherit.h"
#include "proc/notify.h"
#include "proc/seal.h"
#include "proc/slots.h"
#include "proc/starter.h"

#include <stdio.h>
#include <unistd.h>

#define AFTER_MS 100  /* from a change to its record */
#define AGAIN_MS 1000 /* after a failure */
#define BUCKETS 256u
#define NAME_ROOM 80
#define RECORDS_NAME "records-" /* in the manager's store, and a 0 or 1 */
#define CERTIFICATE_NAME "certificate"

/* A socket in the manager's store. */
struct stored {
    struct ht_list node; /* in a bucket */
    struct io_addr addr;
    bool seen; /* it listens still */
};

struct kit_store {
    struct kit *kit;
    struct kit_keep keep; /* manager NULL: it stores nothing */
    unsigned room;        /* sockets that the manager takes; 0: it stores none */
    unsigned n_stored;
    bool told_full, failed, has_certificate;
    uint64_t seq;
    struct io_timer timer;
    bool due; /* the timer is set for a change */
    struct ht_list stored[BUCKETS];
};

static unsigned bucket(const struct io_addr *a) { return io_addr_port(a) % BUCKETS; }

static struct stored *find(const struct kit_store *s, const struct io_addr *a) {
    HT_LIST_FOR (it, &s->stored[bucket(a)]) {
        struct stored *one = HT_LIST_ENTRY(it, struct stored, node);
        if (io_addr_same(&one->addr, a))
            return one;
    }
    return NULL;
}

/* sd_notify(3): ASCII without a colon. */
static const char *name_of(const struct io_addr *a, char out[NAME_ROOM]) {
    char text[IO_ADDR_TEXT];
    snprintf(out, NAME_ROOM, "listener-%s", io_addr_text(a, text));
    for (char *p = out; *p; p++)
        *p = *p == ':' ? '_' : *p;
    return out;
}

static bool manager_stores(const struct kit_store *s) { return s->room > 0; }

/* ---- sockets in the manager's store ---- */

struct pushing {
    struct kit_store *s;
    int rc;
};

static void push(struct pushing *p, const struct io_addr *addr, struct io_listener *l) {
    struct kit_store *s = p->s;
    struct stored *one = find(s, addr);
    char name[NAME_ROOM];
    if (one) {
        one->seen = true;
        return;
    }
    if (p->rc < 0)
        return;
    if (s->n_stored >= s->room) {
        if (!s->told_full)
            ht_warn("kit",
                    "the service manager stores %u descriptors (FileDescriptorStoreMax=), and there are more "
                    "ports: after a crash the others are opened anew",
                    s->room);
        s->told_full = true;
        return;
    }
    one = ht_calloc(1, sizeof *one);
    p->rc =
        one ? proc_notify_send_fd(s->keep.manager, io_listener_share(l), "FDSTORE=1\nFDNAME=%s", name_of(addr, name))
            : HT_ENOMEM;
    if (p->rc < 0) {
        ht_free(one);
        return;
    }
    *one = (struct stored){.addr = *addr, .seen = true};
    ht_list_init(&one->node);
    ht_list_push_back(&s->stored[bucket(addr)], &one->node);
    s->n_stored++;
}

static void push_binding(void *ctx, const struct relay_kept *kept) {
    if (kept->listener)
        push(ctx, &kept->addr, kept->listener);
}

static void push_own(void *ctx, const char *role, struct io_listener *l) {
    struct io_addr addr;
    (void)role;
    io_listener_local(l, &addr);
    push(ctx, &addr, l);
}

/* Takes those out that listen no more. */
static void sweep(struct kit_store *s) {
    char name[NAME_ROOM];
    for (unsigned i = 0; i < BUCKETS; i++)
        HT_LIST_FOR_SAFE (it, &s->stored[i]) {
            struct stored *one = HT_LIST_ENTRY(it, struct stored, node);
            if (!one->seen &&
                proc_notify_send(s->keep.manager, "FDSTOREREMOVE=1\nFDNAME=%s", name_of(&one->addr, name)) == 0) {
                ht_list_remove(&one->node);
                ht_free(one);
                s->n_stored--;
            } else {
                one->seen = false; /* for the next time */
            }
        }
}

static int push_sockets(struct kit_store *s) {
    struct pushing p = {.s = s};
    struct ht_list *lists[] = {&s->kit->live, &s->kit->parked};
    kit_each_listener(s->kit, push_own, &p);
    for (size_t i = 0; i < HT_ARRAY_LEN(lists); i++)
        HT_LIST_FOR (it, lists[i])
            relay_each_kept(s->kit->table, &HT_LIST_ENTRY(it, struct kit_session, node)->owner, push_binding, &p);
    sweep(s);
    return p.rc;
}

/* The certificate of --tls-self-signed does not change while the kit runs. */
static int push_certificate(struct kit_store *s) {
    if (s->has_certificate)
        return HT_OK;
    int fd = kit_tls_seal(s->kit);
    int rc = proc_notify_send(s->keep.manager, "FDSTOREREMOVE=1\nFDNAME=" CERTIFICATE_NAME);
    if (rc == HT_OK && fd >= 0)
        rc = proc_notify_send_fd(s->keep.manager, fd, "FDSTORE=1\nFDNAME=" CERTIFICATE_NAME);
    if (fd >= 0)
        close(fd);
    s->has_certificate = rc == HT_OK;
    return rc;
}

/* ---- the records ---- */

static int push_records(struct kit_store *s, struct ht_slice text) {
    struct ht_errmsg err;
    unsigned at = s->seq % 2;
    int fd = proc_seal("hoody-tunnel-records", text, &err);
    if (fd < 0)
        return fd;
    /* The other one stays until this one is there. */
    int rc = proc_notify_send(s->keep.manager, "FDSTOREREMOVE=1\nFDNAME=" RECORDS_NAME "%u", at);
    if (rc == HT_OK)
        rc = proc_notify_send_fd(s->keep.manager, fd, "FDSTORE=1\nFDNAME=" RECORDS_NAME "%u", at);
    close(fd);
    return rc;
}

static int write_slot(struct kit_store *s, struct ht_slice text) {
    unsigned at = s->seq % PROC_SLOTS;
    int rc = proc_slots_write(s->keep.slots, at, text);
    if (rc == HT_OK && s->keep.starter)
        (void)proc_starter_sync(s->keep.starter, at); /* so that this process does not wait for the disk */
    return rc;
}

static void save(struct kit_store *s) {
    struct ht_buf text = {0};
    if (s->kit->handing) { /* the kit that follows goes on with the numbers */
        io_timer_set(&s->timer, AGAIN_MS);
        return;
    }
    s->seq++;
    int rc = kept_write(s->kit, s->seq, &text);
    int slots = rc == HT_OK && s->keep.slots ? write_slot(s, ht_buf_slice(&text)) : rc;
    int manager = rc == HT_OK && manager_stores(s) ? push_sockets(s) : rc;
    if (manager == HT_OK && manager_stores(s))
        manager = push_certificate(s);
    if (manager == HT_OK && manager_stores(s))
        manager = push_records(s, ht_buf_slice(&text));
    ht_buf_free(&text);
    rc = slots < 0 ? slots : manager;
    bool is_new = rc < 0 && rc != HT_EAGAIN && !s->failed;
    if (is_new)
        ht_error("kit", "the records of sessions cannot be kept%s: %s; trying again",
                 slots < 0 ? " in --state-dir" : " by the service manager", ht_err_text(rc));
    else if (rc == HT_OK && s->failed)
        ht_info("kit", "the records of sessions are kept again");
    s->failed = rc < 0 && (s->failed || is_new);
    s->due = rc < 0;
    if (rc < 0)
        io_timer_set(&s->timer, AGAIN_MS);
}

static void timer_fired(struct io_timer *t) { save(ht_container_of(t, struct kit_store, timer)); }

void store_touch(struct kit *k) {
    struct kit_store *s = k->store;
    if (!s || s->due || k->draining || k->leaving)
        return;
    s->due = true;
    io_timer_set(&s->timer, AFTER_MS);
}

/* ---- from start to end ---- */

int kit_keep_records(struct kit *k, const struct kit_keep *keep) {
    unsigned room = keep->manager ? proc_notify_stores() : 0;
    if (!keep->slots && room == 0)
        return HT_OK;
    struct kit_store *s = k->store = ht_calloc(1, sizeof *s);
    if (!s)
        return HT_ENOMEM;
    s->kit = k;
    s->keep = *keep;
    unsigned other = PROC_SLOTS + k->opt->tls_self_signed; /* the records, and the certificate */
    s->room = room > other ? room - other : 0;
    s->seq = k->records_seq;
    for (unsigned i = 0; i < BUCKETS; i++)
        ht_list_init(&s->stored[i]);
    io_timer_init(k->loop, &s->timer, timer_fired);
    save(s);
    return HT_OK;
}

void store_flush(struct kit *k, bool ends) {
    struct kit_store *s = k->store;
    if (!s || k->draining || k->leaving || !(s->due || ends))
        return;
    k->ending = ends;
    save(s);
}

uint64_t store_seq(const struct kit *k) { return k->store ? k->store->seq : k->records_seq; }

void store_close(struct kit *k) {
    struct kit_store *s = k->store;
    k->store = NULL;
    if (!s)
        return;
    io_timer_stop(&s->timer);
    for (unsigned i = 0; i < BUCKETS; i++) {
        struct ht_list *n;
        while ((n = ht_list_pop_front(&s->stored[i])))
            ht_free(HT_LIST_ENTRY(n, struct stored, node));
    }
    ht_free(s);
}

/* ---- what an earlier kit has kept ---- */

void kit_inherit_sockets(struct io_loop *loop, struct proc_inheritance *in) {
    for (size_t i = 0; i < in->n; i++) {
        struct ht_errmsg err;
        int fd = in->all[i].fd;
        if (fd < 0 || proc_seal_is(fd))
            continue;
        in->all[i].fd = -1;
        if (io_inherit(loop, fd, "", &err) < 0)
            ht_warn("kit", "descriptor %d of the service manager (%s): %s", fd, in->all[i].name, err.text);
    }
}

int kit_certificate_of(const struct proc_inheritance *in) {
    for (size_t i = 0; i < in->n; i++)
        if (strcmp(in->all[i].name, CERTIFICATE_NAME) == 0)
            return in->all[i].fd;
    return -1;
}

/* The newest records so far. */
struct newest {
    struct records r;
    const char *where; /* NULL: none */
};

static void consider(struct newest *n, struct ht_slice text, const char *where) {
    struct records r;
    struct ht_errmsg err;
    if (text.n == 0)
        return;
    int rc = records_open(&r, text, &err);
    if (rc < 0) {
        ht_error("kit", "the records of sessions in %s cannot be used: %s", where, err.text);
    } else if (!n->where || r.head.seq > n->r.head.seq) {
        struct records older = n->r;
        n->r = r;
        n->where = where;
        r = older;
    }
    records_free(&r);
}

static void look_at_manager(struct newest *n, const struct proc_inheritance *in) {
    for (size_t i = 0; i < in->n; i++) {
        struct ht_buf text = {0};
        struct ht_errmsg err;
        if (in->all[i].fd < 0 || strcmp(in->all[i].name, CERTIFICATE_NAME) == 0)
            continue;
        if (proc_seal_read(in->all[i].fd, RESTART_LIMIT_MAX_RECORDS, &text, &err) < 0)
            ht_error("kit", "the memory file %s of the service manager cannot be used: %s", in->all[i].name, err.text);
        else
            consider(n, ht_buf_slice(&text), "the service manager's store");
        ht_buf_free(&text);
    }
}

static void look_at_slots(struct newest *n, const struct proc_slots *slots) {
    for (unsigned i = 0; i < PROC_SLOTS; i++) {
        struct ht_buf text = {0};
        int rc = proc_slots_read(slots, i, RESTART_LIMIT_MAX_RECORDS, &text);
        if (rc < 0)
            ht_error("kit", "the records of sessions in --state-dir cannot be read: %s", ht_err_text(rc));
        else
            consider(n, ht_buf_slice(&text), "--state-dir");
        ht_buf_free(&text);
    }
}

static void not_wanted(void *ctx, const struct io_addr *addr) {
    const struct proc_notify *manager = ctx;
    char text[IO_ADDR_TEXT], name[NAME_ROOM];
    ht_info("kit", "nobody needs the inherited socket on %s any more", io_addr_text(addr, text));
    if (manager)
        (void)!proc_notify_send(manager, "FDSTOREREMOVE=1\nFDNAME=%s", name_of(addr, name));
}

void kit_restore(struct kit *k, const struct proc_inheritance *in, const struct proc_slots *slots,
                 const struct proc_notify *manager) {
    struct newest n = {.where = NULL};
    struct kept_count count;
    if (in)
        look_at_manager(&n, in);
    if (slots)
        look_at_slots(&n, slots);
    if (n.where) {
        k->records_seq = (uint64_t)n.r.head.seq;
        if (kept_restore(k, &n.r, false, &count) < 0)
            ht_error("kit", "sessions cannot be restored: out of memory");
        else if (count.sessions + count.left_out > 0) {
            event_restart(k, ADMIN_EVENT_TYPE_RESTORED, &(struct kit_restarted){count.sessions, count.left_out, 0, 0},
                          NULL);
            ht_info("kit",
                    "%u sessions with %u bindings are restored from %s, and wait for their drivers; %u are left out",
                    count.sessions, count.bindings + count.late, n.where, count.left_out);
        }
    }
    records_free(&n.r);
    io_inherit_drop(k->loop, not_wanted, (void *)(uintptr_t)manager);
}
