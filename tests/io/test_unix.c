/* Dialling Unix sockets: one that listens, and each way in which one does not. */
#include "io/net_support.h"

#include <sys/stat.h>
#include <sys/un.h>

static char folder[] = "/tmp/ht-unix-XXXXXX", path[64];

static int listen_at(int type, int backlog) {
    struct io_addr a = io_addr_of_path(path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    unlink(path);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&a.ss, a.len) != 0 || (backlog >= 0 && listen(fd, backlog) != 0))
        return -1;
    return fd;
}

static struct io_dial *dial_path(struct dialled *d, uint64_t ms) {
    struct ht_errmsg e;
    *d = (struct dialled){0};
    return io_dial_unix(loop, path, ms, &dial_ops, d, &e);
}

static bool fails(int err, const char *says) {
    struct dialled d;
    return dial_path(&d, PATIENCE_MS) && !d.done && turn_until(&d.done, PATIENCE_MS) && d.err == err &&
           strstr(d.text, path) && strstr(d.text, says);
}

static void one_that_listens(void) {
    struct dialled d;
    int fd = listen_at(SOCK_STREAM, 8);
    CU_ASSERT_FATAL(fd >= 0 && dial_path(&d, PATIENCE_MS));
    CU_ASSERT(!d.done && turn_until(&d.done, PATIENCE_MS) && d.err == HT_OK); /* never inside io_dial_unix() */
    int c = accept(fd, NULL, NULL);
    CU_ASSERT_EQUAL(side_write(&d.side, "hi", 2), 2);
    char got[4];
    CU_ASSERT(read(c, got, sizeof got) == 2 && memcmp(got, "hi", 2) == 0);
    CU_ASSERT(write(c, "ok", 2) == 2 && close(c) == 0);
    CU_ASSERT(turn_until(&d.side.ended, PATIENCE_MS) && d.side.got == 2 && d.side.err == HT_EOF);
    io_conn_close(&d.side.c);
    struct io_dial *cancelled = dial_path(&d, PATIENCE_MS);
    io_dial_cancel(&cancelled);
    turns(2);
    CU_ASSERT(!d.done);
    close(fd);
}

static void ones_that_do_not(void) {
    int fd = listen_at(SOCK_STREAM, 1);
    close(fd);
    CU_ASSERT(fails(HT_EREFUSED, "nobody listens there"));
    unlink(path);
    CU_ASSERT(fails(HT_EREFUSED, "there is no such socket"));
    FILE *f = fopen(path, "w");
    CU_ASSERT_FATAL(f && fclose(f) == 0);
    CU_ASSERT(fails(HT_EREFUSED, "that is not a socket"));
    fd = listen_at(SOCK_DGRAM, -1);
    CU_ASSERT(fails(HT_EREFUSED, "not a stream socket"));
    close(fd);
}

static void without_permission(void) {
    int fd = listen_at(SOCK_STREAM, 1);
    CU_ASSERT_FATAL(fd >= 0 && chmod(path, 0) == 0 && chmod(folder, 0755) == 0);
    uid_t me = geteuid();
    if (me == 0 && seteuid(65534) == 0) {
        CU_ASSERT(fails(HT_EACCESS, "permission denied: this user needs write permission"));
        CU_ASSERT_EQUAL(seteuid(me), 0);
    } else {
        CU_ASSERT(fails(HT_EACCESS, "permission denied: this user needs write permission"));
    }
    close(fd);
}

/* The kernel says EAGAIN when a socket's queue is full, and reports nothing when there is room again. */
static void a_full_queue(void) {
    struct dialled d[2];
    int fd = listen_at(SOCK_STREAM, 0);
    CU_ASSERT_FATAL(fd >= 0 && dial_path(&d[0], PATIENCE_MS) && turn_until(&d[0].done, PATIENCE_MS));
    CU_ASSERT(dial_path(&d[1], 30) != NULL && turn_until(&d[1].done, PATIENCE_MS));
    CU_ASSERT(d[1].err == HT_ETIMEDOUT && strstr(d[1].text, "its queue was full for 30 ms"));
    struct io_dial *cancelled = dial_path(&d[1], PATIENCE_MS);
    turns(1);
    io_dial_cancel(&cancelled);
    CU_ASSERT(dial_path(&d[1], PATIENCE_MS) != NULL);
    turns(3);
    CU_ASSERT(!d[1].done);
    int c = accept(fd, NULL, NULL);
    CU_ASSERT(turn_until(&d[1].done, PATIENCE_MS) && d[1].err == HT_OK);
    io_conn_close(&d[0].side.c);
    io_conn_close(&d[1].side.c);
    close(c);
    close(fd);
}

static const struct tap_test tests[] = {
    {"a socket that listens is connected to", one_that_listens},
    {"each way in which nobody listens has a text of its own", ones_that_do_not},
    {"a socket that this user may not use", without_permission},
    {"a full queue is waited for", a_full_queue},
    {NULL, NULL},
};

int main(void) {
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/socket", folder);
    loop = io_loop_create();
    int rc = tap_main("io, unix", tests);
    io_loop_destroy(&loop);
    unlink(path);
    rmdir(folder);
    return rc;
}
