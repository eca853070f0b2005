/* What outlives a process: descriptors from a service manager, sealed memory files, and a folder with two files. */
#include "base/buf.h"
#include "base/mem.h"
#include "proc/inherit.h"
#include "proc/notify.h"
#include "proc/seal.h"
#include "proc/slots.h"
#include "support/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- inherited descriptors ---- */

struct given {
    const char *pid; /* NULL: our own number */
    const char *n, *names;
    int open; /* how many descriptors from 3 on are open */
};

/* In a child, since the numbers are fixed. Its result; -1: it has failed in another way. */
static int in_child(const struct given *g, int (*look)(int rc, struct proc_inheritance *in, const char *text)) {
    fflush(stdout);
    pid_t pid = fork();
    CU_ASSERT_FATAL(pid >= 0);
    if (pid == 0) {
        char own[24];
        struct ht_errmsg err = {""};
        struct proc_inheritance in;
        close_range(3, ~0u, 0);
        for (int i = 0; i < g->open; i++)
            if (open("/dev/null", O_RDONLY) != 3 + i)
                _exit(99);
        snprintf(own, sizeof own, "%d", (int)getpid());
        if (!g->pid || *g->pid)
            setenv("LISTEN_PID", g->pid ? g->pid : own, 1);
        if (g->n)
            setenv("LISTEN_FDS", g->n, 1);
        if (g->names)
            setenv("LISTEN_FDNAMES", g->names, 1);
        int rc = proc_inherit_take(&in, &err);
        if (getenv("LISTEN_PID") || getenv("LISTEN_FDS") || getenv("LISTEN_FDNAMES"))
            _exit(98);
        int result = look(rc, &in, err.text);
        proc_inherit_free(&in);
        for (int i = 0; i < g->open; i++)
            if (rc == HT_OK && in.n && fcntl(3 + i, F_GETFD) >= 0)
                _exit(97);
        _exit(result);
    }
    int status = -1;
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int two_with_names(int rc, struct proc_inheritance *in, const char *text) {
    (void)text;
    return rc || in->n != 2 || in->all[0].fd != 3 || in->all[1].fd != 4 || strcmp(in->all[0].name, "listen") != 0 ||
           strcmp(in->all[1].name, "") != 0 || fcntl(3, F_GETFD) != FD_CLOEXEC;
}

static int one_without_a_name(int rc, struct proc_inheritance *in, const char *text) {
    (void)text;
    return rc || in->n != 1 || in->all[0].name[0];
}

static int none(int rc, struct proc_inheritance *in, const char *text) { return rc || in->n || *text; }

static int refused(int rc, struct proc_inheritance *in, const char *text) {
    return rc != HT_EINVAL || in->n || in->all || !*text;
}

static void inherited(void) {
    static char long_name[PROC_INHERIT_NAME + 2];
    memset(long_name, 'x', sizeof long_name - 1);
    CU_ASSERT_EQUAL(in_child(&(struct given){NULL, "2", "listen:", 2}, two_with_names), 0);
    CU_ASSERT_EQUAL(in_child(&(struct given){NULL, "1", NULL, 1}, one_without_a_name), 0);
    CU_ASSERT_EQUAL(in_child(&(struct given){NULL, "0", NULL, 0}, none), 0);
    CU_ASSERT_EQUAL(in_child(&(struct given){NULL, NULL, NULL, 0}, none), 0);
    CU_ASSERT_EQUAL(in_child(&(struct given){"1", "2", "a:b", 2}, none), 0); /* another process's */
    static const struct given bad[] = {
        {NULL, "x", NULL, 1},    {NULL, "-1", NULL, 1}, {NULL, "1x", NULL, 1},     {NULL, "65537", NULL, 1},
        {NULL, "2", NULL, 1},    {"", "1", NULL, 1},    {"1x", "1", NULL, 1},      {NULL, "2", "a", 2},
        {NULL, "2", "a:b:c", 2}, {NULL, "1", "a:b", 1}, {NULL, "1", long_name, 1}, {NULL, "", NULL, 0},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++)
        CU_ASSERT_EQUAL(in_child(&bad[i], refused), 0);
}

/* ---- sealed memory ---- */

static void sealed(void) {
    struct ht_errmsg err = {""};
    struct ht_buf got = {0};
    int fd = proc_seal("test", ht_slice_str("records"), &err);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT(proc_seal_is(fd));
    CU_ASSERT_EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CU_ASSERT(pwrite(fd, "x", 1, 0) < 0);
    CU_ASSERT(ftruncate(fd, 0) < 0);
    CU_ASSERT(ftruncate(fd, 4096) < 0);
    CU_ASSERT_EQUAL(proc_seal_read(fd, 7, &got, &err), HT_OK);
    CU_ASSERT(ht_slice_is(ht_buf_slice(&got), "records"));
    CU_ASSERT_EQUAL(proc_seal_read(fd, 7, &got, &err), HT_OK); /* wherever its position is */
    CU_ASSERT(ht_slice_is(ht_buf_slice(&got), "recordsrecords"));
    CU_ASSERT_EQUAL(proc_seal_read(fd, 6, &got, &err), HT_EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "7 bytes"));
    close(fd);
    fd = memfd_create("open", MFD_ALLOW_SEALING);
    CU_ASSERT(proc_seal_is(fd));
    CU_ASSERT_EQUAL(proc_seal_read(fd, 7, &got, &err), HT_EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "not sealed"));
    CU_ASSERT_EQUAL(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW), 0); /* may still shrink */
    CU_ASSERT_EQUAL(proc_seal_read(fd, 7, &got, &err), HT_EINVAL);
    close(fd);
    fd = open("/dev/null", O_RDONLY);
    CU_ASSERT_FALSE(proc_seal_is(fd));
    CU_ASSERT_EQUAL(proc_seal_read(fd, 7, &got, &err), HT_EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "no memory file"));
    close(fd);
    CU_ASSERT_EQUAL(proc_seal_read(-1, 7, &got, &err), HT_EINVAL);
    ht_buf_free(&got);
    fd = proc_seal("empty", ht_slice_of(NULL, 0), &err);
    CU_ASSERT_EQUAL(proc_seal_read(fd, 7, &got, &err), HT_OK);
    CU_ASSERT_EQUAL(ht_buf_size(&got), 0);
    ht_buf_free(&got);
    close(fd);
}

/* ---- two files in a folder ---- */

static char folder[] = "/tmp/ht-store-XXXXXX";
static char path[PATH_MAX], file[2][PATH_MAX];

static void put_paths(const char *name) {
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(file[0], sizeof file[0], "%s/%s/records.a", folder, name);
    snprintf(file[1], sizeof file[1], "%s/%s/records.b", folder, name);
}

static void clear(void) {
    unlink(file[0]);
    unlink(file[1]);
    rmdir(path);
}

static void expect_slot(const struct proc_slots *s, unsigned i, const char *text) {
    struct ht_buf got = {0};
    CU_ASSERT_EQUAL(proc_slots_read(s, i, 100, &got), HT_OK);
    CU_ASSERT(ht_slice_is(ht_buf_slice(&got), text));
    ht_buf_free(&got);
}

static void two_files(void) {
    struct proc_slots s, again;
    struct ht_errmsg err = {""};
    struct stat st;
    put_paths("state");
    CU_ASSERT_EQUAL_FATAL(proc_slots_open(&s, path, NULL, &err), HT_OK);
    CU_ASSERT(stat(path, &st) == 0 && (st.st_mode & 07777) == 0700);
    for (unsigned i = 0; i < PROC_SLOTS; i++) {
        CU_ASSERT(stat(file[i], &st) == 0 && (st.st_mode & 07777) == 0600);
        expect_slot(&s, i, "");
    }
    CU_ASSERT_EQUAL(proc_slots_write(&s, 1, ht_slice_str("a longer text")), HT_OK);
    CU_ASSERT_EQUAL(proc_slots_write(&s, 1, ht_slice_str("short")), HT_OK);
    CU_ASSERT_EQUAL(proc_slots_sync(&s, 1), HT_OK);
    expect_slot(&s, 1, "short");
    expect_slot(&s, 0, "");
    struct ht_buf got = {0};
    CU_ASSERT_EQUAL(proc_slots_read(&s, 1, 4, &got), HT_ESPACE);
    /* One writes there, and another one may once that one has said so, or has ended. */
    CU_ASSERT_EQUAL(proc_slots_claim(&s), HT_OK);
    CU_ASSERT_EQUAL_FATAL(proc_slots_open(&again, path, NULL, &err), HT_OK);
    CU_ASSERT_EQUAL(proc_slots_claim(&again), HT_EINUSE);
    proc_slots_unclaim(&s);
    CU_ASSERT_EQUAL(proc_slots_claim(&again), HT_OK);
    CU_ASSERT_EQUAL(proc_slots_claim(&s), HT_EINUSE);
    proc_slots_close(&again);
    CU_ASSERT_EQUAL(proc_slots_claim(&s), HT_OK);
    proc_slots_close(&s);
    proc_slots_close(&s);
    CU_ASSERT_EQUAL_FATAL(proc_slots_open(&s, path, NULL, &err), HT_OK);
    expect_slot(&s, 1, "short");
    proc_slots_close(&s);
    clear();
}

/* Whoever can write there could tell a kit which sessions there are. */
static void files_that_are_not_ours(void) {
    struct proc_slots s;
    struct ht_errmsg err = {""};
    put_paths("odd");
    CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
    CU_ASSERT_EQUAL(symlink("/dev/null", file[0]), 0);
    CU_ASSERT_EQUAL(proc_slots_open(&s, path, NULL, &err), HT_EIO);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "symbolic link"));
    CU_ASSERT_EQUAL(s.fd[0], -1);
    unlink(file[0]);
    CU_ASSERT_EQUAL(mkdir(file[0], 0700), 0);
    CU_ASSERT_EQUAL(proc_slots_open(&s, path, NULL, &err), HT_EIO);
    rmdir(file[0]);
    CU_ASSERT_EQUAL(mkfifo(file[0], 0600), 0);
    CU_ASSERT_EQUAL(proc_slots_open(&s, path, NULL, &err), HT_EACCESS);
    unlink(file[0]);
    close(open(file[0], O_WRONLY | O_CREAT, 0600));
    CU_ASSERT_EQUAL(link(file[0], file[1]), 0);
    CU_ASSERT_EQUAL(proc_slots_open(&s, path, NULL, &err), HT_EACCESS);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "one name"));
    unlink(file[1]);
    CU_ASSERT_EQUAL(chmod(file[0], 0640), 0);
    CU_ASSERT_EQUAL(proc_slots_open(&s, path, NULL, &err), HT_EACCESS);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "0600"));
    CU_ASSERT_EQUAL(chmod(file[0], 0600), 0);
    if (geteuid() == 0) {
        CU_ASSERT_EQUAL(chown(file[0], 65534, 65534), 0);
        CU_ASSERT_EQUAL(proc_slots_open(&s, path, NULL, &err), HT_EACCESS);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "another user"));
        CU_ASSERT_EQUAL(proc_slots_open(&s, path, "65534:65534", &err), HT_OK); /* the one that the kit becomes */
        struct stat st;
        CU_ASSERT(stat(file[1], &st) == 0 && st.st_uid == 65534);
        proc_slots_close(&s);
    }
    clear();
    put_paths("deep/er");
    CU_ASSERT_EQUAL(proc_slots_open(&s, path, NULL, &err), HT_EIO);
    CU_ASSERT_EQUAL(proc_slots_open(&s, "/dev/null", NULL, &err), HT_EIO);
}

/* ---- a descriptor for the manager ---- */

static void to_the_manager(void) {
    struct proc_notify n;
    struct ht_errmsg err;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof un.sun_path, "%s/notify", folder);
    int manager = socket(AF_UNIX, SOCK_DGRAM, 0);
    CU_ASSERT_EQUAL_FATAL(bind(manager, (const struct sockaddr *)&un, sizeof un), 0);
    setenv("NOTIFY_SOCKET", un.sun_path, 1);
    CU_ASSERT_EQUAL(proc_notify_open(&n, &err), HT_OK);
    int fd = proc_seal("test", ht_slice_str("stored"), &err);
    CU_ASSERT_EQUAL(proc_notify_send_fd(&n, fd, "FDSTORE=1\nFDNAME=%s", "records-a"), HT_OK);
    close(fd);
    char text[100];
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec v = {text, sizeof text};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    ssize_t got = recvmsg(manager, &m, 0);
    CU_ASSERT(ht_slice_is(ht_slice_of(text, got > 0 ? (size_t)got : 0), "FDSTORE=1\nFDNAME=records-a"));
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    struct ht_buf bytes = {0};
    CU_ASSERT_EQUAL(proc_seal_read(fd, 100, &bytes, &err), HT_OK);
    CU_ASSERT(ht_slice_is(ht_buf_slice(&bytes), "stored"));
    ht_buf_free(&bytes);
    close(fd);
    /* One that does not read: it is tried again later. */
    int rc = HT_OK;
    for (int i = 0; i < 100000 && rc == HT_OK; i++)
        rc = proc_notify_send_fd(&n, manager, "FDSTORE=1");
    CU_ASSERT_EQUAL(rc, HT_EAGAIN);
    close(manager);
    unlink(un.sun_path);
    CU_ASSERT_EQUAL(proc_notify_send_fd(&n, 0, "FDSTORE=1"), HT_EIO);
    proc_notify_close(&n);
    unsetenv("NOTIFY_SOCKET");
    CU_ASSERT_EQUAL(proc_notify_stores(), 0);
    setenv("FDSTORE", "4096", 1);
    CU_ASSERT_EQUAL(proc_notify_stores(), 4096);
    unsetenv("FDSTORE");
}

int main(void) {
    static const struct tap_test tests[] = {
        {"inherited descriptors", inherited},
        {"sealed memory", sealed},
        {"two files in a folder", two_files},
        {"files that are not ours", files_that_are_not_ours},
        {"a descriptor for the manager", to_the_manager},
        {NULL, NULL},
    };
    if (!mkdtemp(folder))
        return 1;
    int rc = tap_main("what outlives a process", tests);
    rmdir(folder);
    return rc;
}
