/* Documents: versions, parts, observers, the audit, and an end of the program at each call that writes. */
#include "base/mem.h"
#include "edge/edge_priv.h"
#include "edge/state.h"
#include "support/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define A "890abcdef12345678901cdef"
#define B "0123456789abcdef01234567"

static char folder[64];
static struct edge_state *state;
static const struct edge_actor somebody = {.who = "uid 0", .what = "containerAddress", .from = "unix"};

/* ---- the program ends at a call ---- */

static long left = -1; /* calls until the end; -1: none */
static bool half;      /* it ends in the middle of what it writes */
static bool full;      /* the disk is, for the journal */

static void end_here(int fd, const void *p, size_t n) {
    if (left < 0 || left-- > 0)
        return;
    if (half && n > 1)
        (void)!syscall(SYS_write, fd, p, n / 2);
    _exit(9);
}

ssize_t write(int fd, const void *p, size_t n) {
    end_here(fd, p, n);
    return syscall(SYS_write, fd, p, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at) {
    if (left >= 0 && left-- == 0) {
        if (half && n > 1)
            (void)!syscall(SYS_pwrite64, fd, p, n / 2, at);
        _exit(9);
    }
    if (full && n > 1) { /* some of it goes in */
        errno = ENOSPC;
        (void)!syscall(SYS_pwrite64, fd, p, n - 1, at);
        return -1;
    }
    return syscall(SYS_pwrite64, fd, p, n, at);
}

int fsync(int fd) {
    end_here(fd, NULL, 0);
    return 0; /* the machine goes on: there is nothing to wait for */
}

int fdatasync(int fd) {
    end_here(fd, NULL, 0);
    return 0;
}

int rename(const char *from, const char *to) {
    end_here(-1, NULL, 0);
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlink(const char *path) {
    end_here(-1, NULL, 0);
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

/* ---- helpers ---- */

static void shell(const char *fmt, const char *name) {
    char line[256];
    snprintf(line, sizeof line, fmt, folder, name);
    CU_ASSERT_EQUAL(system(line), 0);
}

static void make_folder(void) {
    struct ht_errmsg err;
    /* In memory where that is possible: some thousand folders are made. */
    snprintf(folder, sizeof folder, "%s/ht-state-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    CU_ASSERT_EQUAL_FATAL(edge_folder_make(folder, &err), HT_OK);
}

static void begin(void) {
    struct ht_errmsg err;
    make_folder();
    CU_ASSERT_EQUAL_FATAL(edge_state_open(&state, folder, &err), HT_OK);
}

static void again(void) {
    struct ht_errmsg err = {""};
    edge_state_close(&state);
    int rc = edge_state_open(&state, folder, &err);
    if (rc < 0)
        printf("# %s\n", err.text);
    CU_ASSERT_EQUAL_FATAL(rc, HT_OK);
}

static void end(void) {
    edge_state_close(&state);
    shell("rm -r %s%s", "");
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

/* NULL as the value: the part goes. */
static int put(enum edge_kind kind, const char *id, uint64_t expected, const char *part, const char *value,
               uint64_t *version, struct ht_errmsg *err) {
    return edge_state_change(state, kind, id, expected,
                             &(struct edge_change){.part = part, .value = ht_slice_str(value)}, 1, &somebody, version,
                             err);
}

static void is(enum edge_kind kind, const char *id, const char *part, const char *value) {
    struct ht_slice got = edge_doc_part(edge_state_get(state, kind, id), part);
    if (!value)
        CU_ASSERT_PTR_NULL(got.p);
    CU_ASSERT_TRUE(!value || ht_slice_is(got, value));
}

/* ---- tests ---- */

static void a_change_is_kept(void) {
    struct ht_errmsg err = {""};
    uint64_t version = 99;
    begin();
    CU_ASSERT_PTR_NULL(edge_state_get(state, EDGE_CONTAINER, A));
    CU_ASSERT_EQUAL(edge_doc_version(NULL), 0);
    CU_ASSERT_EQUAL(put(EDGE_CONTAINER, A, 0, "ip", "\"192.0.2.7\"", &version, &err), HT_OK);
    CU_ASSERT_EQUAL(version, 1);
    CU_ASSERT_EQUAL(put(EDGE_CONTAINER, A, 1, "services", "{ \"terminal\" : 7681 }", &version, &err), HT_OK);
    CU_ASSERT_EQUAL(put(EDGE_CONTAINER, B, 0, "ip", "\"192.0.2.8\"", NULL, &err), HT_OK);
    CU_ASSERT_EQUAL(put(EDGE_ALIAS, "my-api", 0, "container_id", "\"" A "\"", NULL, &err), HT_OK);
    for (int round = 0; round < 2; round++, again()) {
        is(EDGE_CONTAINER, A, "ip", "\"192.0.2.7\"");
        is(EDGE_CONTAINER, A, "services", "{ \"terminal\" : 7681 }");
        is(EDGE_CONTAINER, B, "ip", "\"192.0.2.8\"");
        is(EDGE_CONTAINER, B, "services", NULL);
        is(EDGE_ALIAS, "my-api", "container_id", "\"" A "\"");
        CU_ASSERT_EQUAL(edge_doc_version(edge_state_get(state, EDGE_CONTAINER, A)), 2);
        CU_ASSERT_EQUAL(edge_state_count(state, EDGE_CONTAINER), 2);
        CU_ASSERT_EQUAL(edge_state_count(state, EDGE_PROJECT), 0);
    }
    end();
}

static void a_stale_version_changes_nothing(void) {
    struct ht_errmsg err = {""};
    uint64_t version;
    begin();
    CU_ASSERT_EQUAL(put(EDGE_PROJECT, A, 1, "enable_proxy", "false", &version, &err), HT_EAGAIN);
    CU_ASSERT_EQUAL(version, 0);
    CU_ASSERT_EQUAL(put(EDGE_PROJECT, A, 0, "enable_proxy", "false", &version, &err), HT_OK);
    CU_ASSERT_EQUAL(put(EDGE_PROJECT, A, 0, "enable_proxy", "true", &version, &err), HT_EAGAIN);
    CU_ASSERT_EQUAL(version, 1);
    CU_ASSERT_EQUAL(put(EDGE_PROJECT, A, 2, "enable_proxy", "true", &version, &err), HT_EAGAIN);
    is(EDGE_PROJECT, A, "enable_proxy", "false");
    CU_ASSERT_EQUAL(put(EDGE_PROJECT, A, EDGE_ANY_VERSION, "enable_proxy", "true", &version, &err), HT_OK);
    CU_ASSERT_EQUAL(version, 2);
    end();
}

/* Removed and made again, it never has a version that somebody may still know. */
static void versions_do_not_come_again(void) {
    struct ht_errmsg err = {""};
    uint64_t version;
    begin();
    for (int i = 0; i < 5; i++)
        CU_ASSERT_EQUAL(put(EDGE_CONTAINER, A, (uint64_t)i, "ip", "\"192.0.2.7\"", &version, &err), HT_OK);
    CU_ASSERT_EQUAL(put(EDGE_CONTAINER, A, 5, "ip", NULL, &version, &err), HT_OK);
    CU_ASSERT_EQUAL(version, 6);
    CU_ASSERT_PTR_NULL(edge_state_get(state, EDGE_CONTAINER, A));
    again();
    CU_ASSERT_PTR_NULL(edge_state_get(state, EDGE_CONTAINER, A));
    CU_ASSERT_EQUAL(put(EDGE_CONTAINER, A, 0, "ip", NULL, &version, &err), HT_EINVAL);
    CU_ASSERT_EQUAL(put(EDGE_CONTAINER, A, 0, "ip", "\"192.0.2.9\"", &version, &err), HT_OK);
    CU_ASSERT_EQUAL(version, 7);
    end();
}

static void what_is_wrong_is_refused(void) {
    static const char *const ids[] = {"", ".", "..", "a/b", "A", "-a", "a-", "a..b", ".a", "a b", "\xc3\xa4"};
    static const char *const parts[] = {"", "file_version", "Ip", "i p", "a\"b", "a-b"};
    static const char *const values[] = {"", "{", "{}x", "nul", "{\"a\":1,\"a\":2}", "\"\x80\"", "1e400"};
    struct ht_errmsg err;
    begin();
    for (size_t i = 0; i < HT_ARRAY_LEN(ids); i++)
        CU_ASSERT_EQUAL(put(EDGE_ALIAS, ids[i], 0, "ip", "1", NULL, &err), HT_EINVAL);
    for (size_t i = 0; i < HT_ARRAY_LEN(parts); i++)
        CU_ASSERT_EQUAL(put(EDGE_ALIAS, "a", 0, parts[i], "1", NULL, &err), HT_EINVAL);
    for (size_t i = 0; i < HT_ARRAY_LEN(values); i++)
        CU_ASSERT_EQUAL(put(EDGE_ALIAS, "a", 0, "ip", values[i], NULL, &err), HT_EINVAL);
    CU_ASSERT_EQUAL(edge_state_count(state, EDGE_ALIAS), 0);
    char *deep = malloc(200);
    memset(deep, '[', 64);
    memset(deep + 64, ']', 64);
    deep[128] = '\0'; /* as deep as may be, and once more in the document */
    CU_ASSERT_EQUAL(put(EDGE_ALIAS, "a", 0, "ip", deep, NULL, &err), HT_EINVAL);
    free(deep);
    char *large = malloc(EDGE_DOC_MAX + 3);
    memset(large, ' ', EDGE_DOC_MAX + 2);
    large[EDGE_DOC_MAX] = '1';
    large[EDGE_DOC_MAX + 1] = '\0';
    CU_ASSERT_EQUAL(put(EDGE_ALIAS, "a", 0, "ip", large, NULL, &err), HT_ELIMIT);
    free(large);
    again();
    CU_ASSERT_EQUAL(edge_state_count(state, EDGE_ALIAS), 0);
    end();
}

static void files_that_are_no_documents_are_named(void) {
    static const char *const texts[] = {"",
                                        "{",
                                        "[]",
                                        "{\"ip\":1}",
                                        "{\"file_version\":0,\n\"ip\":1}",
                                        "{\"file_version\":1}",
                                        "{\"file_version\":1,\n\"ip\":1,\n\"ip\":2}",
                                        "{\"file_version\":1,\"ip\":1} x",
                                        "{\"file_version\":\"1\",\"ip\":1}"};
    struct ht_errmsg err;
    begin();
    CU_ASSERT_EQUAL(put(EDGE_CONTAINER, A, 0, "ip", "1", NULL, &err), HT_OK);
    for (size_t i = 0; i < HT_ARRAY_LEN(texts); i++) {
        edge_state_close(&state);
        CU_ASSERT_EQUAL(edge_folder_write(folder, "state/container/" B ".json", ht_slice_str(texts[i]), false, &err),
                        HT_OK);
        CU_ASSERT_EQUAL(edge_state_open(&state, folder, &err), HT_EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "/state/container/" B ".json:"));
        CU_ASSERT_PTR_NULL(state);
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, ".json:1: error: "));
    shell("rm %s/state/container/%s.json", B);
    shell("touch %s/state/container/%s", "x.txt");
    CU_ASSERT_EQUAL(edge_state_open(&state, folder, &err), HT_EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "x.txt: error"));
    shell("rm %s/state/container/%s", "x.txt");
    shell("touch %s/state/container/%s.json.part", B); /* as a crash leaves it */
    again();
    CU_ASSERT_EQUAL(edge_state_count(state, EDGE_CONTAINER), 1);
    shell("test ! -e %s/state/container/%s.json.part", B);
    end();
}

struct seen {
    struct edge_observer o;
    unsigned n;
    uint64_t version;
    size_t journal;
    char id[EDGE_ID_MAX + 1];
};

static void changed(struct edge_observer *o, enum edge_kind kind, const char *id, const struct edge_doc *doc) {
    struct seen *s = ht_container_of(o, struct seen, o);
    struct stat st;
    char path[256];
    CU_ASSERT_EQUAL(kind, EDGE_ALIAS);
    snprintf(path, sizeof path, "%s/state/journal", folder);
    CU_ASSERT_TRUE(stat(path, &st) == 0 && (size_t)st.st_size > s->journal); /* it is there before anybody is told */
    s->journal = (size_t)st.st_size;
    s->n++;
    s->version = edge_doc_version(doc);
    snprintf(s->id, sizeof s->id, "%s", id);
}

static int collect(void *ctx, const struct edge_doc *doc) {
    strcat(ctx, edge_doc_id(doc));
    return strcmp(edge_doc_id(doc), "c") == 0 ? 7 : 0;
}

static void observers_are_told(void) {
    struct ht_errmsg err;
    struct seen one = {.o.changed = changed}, two = {.o.changed = changed};
    char ids[64] = "";
    begin();
    edge_state_watch(state, &one.o);
    edge_state_watch(state, &two.o);
    CU_ASSERT_EQUAL(put(EDGE_ALIAS, "c", 0, "x", "1", NULL, &err), HT_OK);
    CU_ASSERT_EQUAL(put(EDGE_ALIAS, "a", 0, "x", "1", NULL, &err), HT_OK);
    CU_ASSERT_EQUAL(put(EDGE_ALIAS, "d", 0, "x", "1", NULL, &err), HT_OK);
    CU_ASSERT_EQUAL(put(EDGE_ALIAS, "b", 0, "x", "1", NULL, &err), HT_OK);
    edge_state_unwatch(state, &one.o);
    CU_ASSERT_EQUAL(edge_state_change(state, EDGE_ALIAS, edge_doc_id(edge_state_get(state, EDGE_ALIAS, "b")), 1,
                                      &(struct edge_change){.part = "x"}, 1, &somebody, NULL, &err),
                    HT_OK);
    CU_ASSERT_EQUAL(one.n, 4);
    CU_ASSERT_EQUAL(two.n, 5);
    CU_ASSERT_EQUAL(two.version, 0);
    CU_ASSERT_STRING_EQUAL(two.id, "b");
    CU_ASSERT_EQUAL(edge_state_each(state, EDGE_ALIAS, collect, ids), 7);
    CU_ASSERT_STRING_EQUAL(ids, "ac");
    end();
}

static void each_change_is_a_line_of_the_audit(void) {
    struct ht_errmsg err;
    char text[4096];
    begin();
    const struct edge_change both[] = {{.part = "ip", .value = ht_slice_str("1")}, {.part = "off"}};
    CU_ASSERT_EQUAL(edge_state_change(state, EDGE_CONTAINER, A, 0, both, 2,
                                      &(struct edge_actor){.who = "a\"\nb", .what = "x", .from = "127.0.0.1"}, NULL,
                                      &err),
                    HT_OK);
    CU_ASSERT_EQUAL(put(EDGE_CONTAINER, A, 0, "ip", "2", NULL, &err), HT_EAGAIN);
    int n = edge_folder_read(folder, "audit.log", text, sizeof text, &err);
    CU_ASSERT_TRUE_FATAL(n > 0);
    CU_ASSERT_PTR_EQUAL(strchr(text, '\n'), text + n - 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"who\":\"a\\\"\\u000ab\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"kind\":\"container\",\"id\":\"" A "\",\"parts\":\"ip,off\",\"version\":1,"
                                        "\"failed\":null}"));
    /* A line that was cut by the machine's end, and a file that was moved away. */
    shell("printf half >> %s/audit.log%s", "");
    CU_ASSERT_EQUAL(put(EDGE_CONTAINER, A, 1, "ip", "2", NULL, &err), HT_OK);
    CU_ASSERT_TRUE(edge_folder_read(folder, "audit.log", text, sizeof text, &err) > n);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "half\n{"));
    shell("mv %s/audit.log%s /tmp/nowhere.$$ && rm /tmp/nowhere.$$", "");
    /* Where no line can be written, nothing is changed. */
    shell("mkdir %s/audit.log%s", "");
    CU_ASSERT_EQUAL(put(EDGE_CONTAINER, A, 2, "ip", "3", NULL, &err), HT_EIO);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "nothing is changed"));
    again();
    is(EDGE_CONTAINER, A, "ip", "2");
    shell("rmdir %s/audit.log%s", "");
    /* A journal that cannot be written. */
    full = true;
    CU_ASSERT_EQUAL(put(EDGE_CONTAINER, B, 0, "ip", "3", NULL, &err), HT_EIO);
    full = false;
    CU_ASSERT_PTR_NULL(edge_state_get(state, EDGE_CONTAINER, B));
    CU_ASSERT_TRUE(edge_folder_read(folder, "audit.log", text, sizeof text, &err) > 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"failed\":\""));
    end();
}

/* ---- an end at every call ---- */

enum pace { STRAIGHT, TIDIED, IN_GROUPS, REOPENED };

struct step {
    const char *id, *part, *value; /* value NULL: the part goes */
};

static const struct step steps[] = {
    {A, "ip", "\"192.0.2.7\""},  {A, "services", "{\"terminal\":7681}"},
    {B, "ip", "\"192.0.2.8\""},  {A, "ip", "\"192.0.2.9\""},
    {A, "services", NULL},       {A, "ip", NULL},
    {A, "ip", "\"192.0.2.10\""}, {B, "ip", NULL},
};

/* What a part is after the first `done` steps; "" for none. */
static const char *model(size_t done, const char *id, const char *part) {
    const char *value = "";
    for (size_t i = 0; i < done; i++)
        if (strcmp(steps[i].id, id) == 0 && strcmp(steps[i].part, part) == 0)
            value = steps[i].value ? steps[i].value : "";
    return value;
}

/* Whether what was read is all that was acknowledged, and the change that was under way whole or not at all. */
static bool as_after(size_t done) {
    static const char *const ids[] = {A, B}, *const parts[] = {"ip", "services"};
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < 2; k++) {
            struct ht_slice got = edge_doc_part(edge_state_get(state, EDGE_CONTAINER, ids[i]), parts[k]);
            if (!ht_slice_eq(got, ht_slice_str(model(done, ids[i], parts[k]))))
                return false;
        }
    return true;
}

/* In a process of its own: says of each step that it is done. */
static void walk(int told, long calls, bool cut, enum pace pace) {
    struct ht_errmsg err;
    left = calls;
    half = cut;
    if (edge_state_open(&state, folder, &err) < 0)
        _exit(1);
    for (size_t i = 0; i < HT_ARRAY_LEN(steps); i++) {
        edge_state_group(state, pace == IN_GROUPS);
        if (put(EDGE_CONTAINER, steps[i].id, EDGE_ANY_VERSION, steps[i].part, steps[i].value, NULL, &err) < 0)
            _exit(2);
        edge_state_group(state, false);
        if (pace == IN_GROUPS && i % 3 != 2)
            continue; /* the next one is of the same group */
        if (edge_state_commit(state, &err) < 0)
            _exit(3);
        (void)!syscall(SYS_write, told, "xxx", pace == IN_GROUPS ? 3 : 1);
        if (pace == TIDIED)
            (void)edge_state_tidy(state, 1 + i % 2);
        else if (pace == REOPENED && i % 2)
            edge_state_close(&state);
        if (!state && edge_state_open(&state, folder, &err) < 0)
            _exit(1);
    }
    edge_state_close(&state);
    _exit(0);
}

/* Whether it is as after some number of steps from `n` on that a group may have ended with. */
static bool as_acknowledged(size_t n, enum pace pace) {
    size_t last = ht_min(n + (pace == IN_GROUPS ? 3 : 1), HT_ARRAY_LEN(steps));
    for (; n <= last; n++)
        if (as_after(n))
            return true;
    return false;
}

static bool ended_at(long calls, bool cut, enum pace pace) {
    int told[2], status;
    char done[HT_ARRAY_LEN(steps) + 1];
    size_t n = 0;
    make_folder();
    CU_ASSERT_EQUAL_FATAL(pipe(told), 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        walk(told[1], calls, cut, pace);
    close(told[1]);
    for (ssize_t got; (got = read(told[0], done, sizeof done)) > 0;)
        n += (size_t)got;
    close(told[0]);
    CU_ASSERT_EQUAL_FATAL(waitpid(pid, &status, 0), pid);
    CU_ASSERT_TRUE_FATAL(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 9));
    again();
    n = ht_min(n, HT_ARRAY_LEN(steps));
    bool good = as_acknowledged(n, pace);
    if (!good)
        printf("# an end at call %ld, after %zu steps, pace %d\n", calls, n, (int)pace);
    CU_ASSERT_TRUE(good);
    /* And it goes on. */
    struct ht_errmsg err;
    CU_ASSERT_EQUAL(put(EDGE_CONTAINER, A, EDGE_ANY_VERSION, "ip", "\"192.0.2.1\"", NULL, &err), HT_OK);
    end();
    return WEXITSTATUS(status) == 9;
}

/* A process of a sanitized build takes long to begin: it ends at every third call, which it is depends on the pace. */
#ifdef HT_SANITIZED
#define EVERY 3
#else
#define EVERY 1
#endif

static void an_end_at_any_call_loses_nothing(void) {
    for (enum pace pace = STRAIGHT; pace <= REOPENED; pace++) {
        long calls = EVERY > 1 ? (long)pace % EVERY : 0;
        for (; ended_at(calls, (calls / EVERY) % 2 == 1, pace); calls += EVERY)
            if (EVERY == 1 && pace == STRAIGHT)
                ended_at(calls, calls % 2 == 0, pace);
        CU_ASSERT_TRUE(calls > 30); /* each step writes, and waits for the disk, several times */
    }
}

/* ---- groups and files ---- */

static unsigned commits, failures;

static void committed(void *ctx, int rc, const char *text) {
    CU_ASSERT_PTR_EQUAL(ctx, &commits);
    CU_ASSERT_EQUAL(rc < 0, text[0] != '\0');
    commits++;
    failures += rc < 0;
}

/* What a member of a group would be to somebody who reads the folder now. */
static bool on_disk(const char *text) {
    char line[256];
    snprintf(line, sizeof line, "grep -rqF '%s' %s/state", text, folder);
    return system(line) == 0;
}

static void a_group_waits_once_and_falls_together(void) {
    struct ht_errmsg err;
    uint64_t version;
    commits = failures = 0;
    begin();
    edge_state_on_commit(state, committed, &commits);
    CU_ASSERT_EQUAL(put(EDGE_CONTAINER, A, 0, "ip", "\"192.0.2.1\"", NULL, &err), HT_OK);
    CU_ASSERT_EQUAL(commits, 1);
    for (int round = 0; round < 2; round++) {
        edge_state_group(state, true);
        CU_ASSERT_EQUAL(put(EDGE_CONTAINER, A, 1, "ip", "\"192.0.2.2\"", &version, &err), HT_OK);
        CU_ASSERT_EQUAL(version, 2);
        CU_ASSERT_EQUAL(put(EDGE_CONTAINER, B, 0, "ip", "\"192.0.2.3\"", &version, &err), HT_OK);
        CU_ASSERT_EQUAL(put(EDGE_CONTAINER, A, 2, "ip", NULL, &version, &err), HT_OK);
        CU_ASSERT_EQUAL(put(EDGE_CONTAINER, B, 1, "ip", "\"192.0.2.4\"", &version, &err), HT_OK);
        edge_state_group(state, false);
        CU_ASSERT_EQUAL(edge_state_pending(state), 4);
        is(EDGE_CONTAINER, A, "ip", NULL);
        is(EDGE_CONTAINER, B, "ip", "\"192.0.2.4\"");
        CU_ASSERT_FALSE(on_disk("192.0.2.4"));
        if (round == 0) {
            full = true;
            CU_ASSERT_EQUAL(edge_state_commit(state, &err), HT_EIO);
            full = false;
            CU_ASSERT_EQUAL(edge_state_pending(state), 0);
            is(EDGE_CONTAINER, A, "ip", "\"192.0.2.1\"");
            CU_ASSERT_EQUAL(edge_doc_version(edge_state_get(state, EDGE_CONTAINER, A)), 1);
            CU_ASSERT_PTR_NULL(edge_state_get(state, EDGE_CONTAINER, B));
            CU_ASSERT_EQUAL(failures, 1);
            /* What had come to the disk of it does not come again. */
            CU_ASSERT_EQUAL(put(EDGE_ALIAS, "a", 0, "x", "1", NULL, &err), HT_OK);
            again();
            edge_state_on_commit(state, committed, &commits);
            is(EDGE_CONTAINER, A, "ip", "\"192.0.2.1\"");
            CU_ASSERT_PTR_NULL(edge_state_get(state, EDGE_CONTAINER, B));
        }
    }
    /* A change outside of it takes it along. */
    commits = 0;
    CU_ASSERT_EQUAL(put(EDGE_ALIAS, "a", 1, "x", "2", NULL, &err), HT_OK);
    CU_ASSERT_EQUAL(commits, 1);
    CU_ASSERT_EQUAL(edge_state_pending(state), 0);
    again();
    is(EDGE_CONTAINER, A, "ip", NULL);
    is(EDGE_CONTAINER, B, "ip", "\"192.0.2.4\"");
    is(EDGE_ALIAS, "a", "x", "2");
    end();
}

static size_t journal_size(void) {
    struct stat st = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/state/journal", folder);
    CU_ASSERT_EQUAL(stat(path, &st), 0);
    return (size_t)st.st_size;
}

static void files_follow_and_the_journal_is_bounded(void) {
    struct ht_errmsg err;
    char id[32], value[32];
    static char large[40000];
    begin();
    for (int i = 0; i < 5; i++) {
        snprintf(id, sizeof id, "a%d", i);
        CU_ASSERT_EQUAL(put(EDGE_ALIAS, id, 0, "x", "1", NULL, &err), HT_OK);
    }
    CU_ASSERT_TRUE(journal_size() > 0);
    CU_ASSERT_TRUE(edge_state_tidy(state, 4));
    CU_ASSERT_TRUE(journal_size() > 0);
    shell("test -e %s/state/alias/%s.json", "a3");
    shell("test ! -e %s/state/alias/%s.json", "a4");
    CU_ASSERT_FALSE(edge_state_tidy(state, 4));
    CU_ASSERT_EQUAL(journal_size(), 0);
    /* A file that cannot be written is tried again: nothing is lost meanwhile. */
    shell("mkdir %s/state/alias/%s.json.part", "a0");
    CU_ASSERT_EQUAL(put(EDGE_ALIAS, "a0", 1, "x", "2", NULL, &err), HT_OK);
    CU_ASSERT_TRUE(edge_state_tidy(state, 4));
    shell("rmdir %s/state/alias/%s.json.part", "a0");
    CU_ASSERT_FALSE(edge_state_tidy(state, 4));
    /* Without a tidy ever, as under a load without end. */
    memset(large, '1', sizeof large - 1);
    large[0] = large[sizeof large - 2] = '"';
    for (int i = 0; i < 400; i++) {
        snprintf(id, sizeof id, "b%d", i % 40);
        snprintf(value, sizeof value, "%d", i);
        CU_ASSERT_EQUAL(put(EDGE_DOMAIN, id, EDGE_ANY_VERSION, "x", i % 4 ? value : large, NULL, &err), HT_OK);
        CU_ASSERT_TRUE(journal_size() < 3u * 1024 * 1024);
    }
    again();
    is(EDGE_ALIAS, "a0", "x", "2");
    is(EDGE_DOMAIN, "b39", "x", "399");
    CU_ASSERT_EQUAL(journal_size(), 0); /* an orderly end leaves files alone */
    end();
}

/* The folder that was copied to `folder`. */
static void a_copy_is_refused_unless_the_end_was_orderly(void) {
    struct ht_errmsg err = {""};
    char first[64];
    begin();
    CU_ASSERT_EQUAL(put(EDGE_ALIAS, "a", 0, "x", "1", NULL, &err), HT_OK);
    snprintf(first, sizeof first, "%s", folder);
    strcat(folder, "2");
    shell("f=%s%s; cp -a ${f%%2} $f", "");
    struct edge_state *copy = NULL;
    CU_ASSERT_EQUAL(edge_state_open(&copy, folder, &err), HT_EINUSE);
    CU_ASSERT_PTR_NULL(copy);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "--take-over"));
    CU_ASSERT_EQUAL(edge_state_take_over(folder, &err), HT_OK);
    CU_ASSERT_EQUAL(edge_state_open(&copy, folder, &err), HT_OK);
    CU_ASSERT_PTR_NOT_NULL(edge_state_get(copy, EDGE_ALIAS, "a"));
    edge_state_close(&copy);
    shell("rm -r %s%s", "");
    folder[strlen(first)] = '\0';
    edge_state_close(&state);
    strcat(folder, "2");
    shell("f=%s%s; cp -a ${f%%2} $f", "");
    CU_ASSERT_EQUAL_FATAL(edge_state_open(&copy, folder, &err), HT_OK);
    CU_ASSERT_PTR_NOT_NULL(edge_state_get(copy, EDGE_ALIAS, "a"));
    edge_state_close(&copy);
    shell("rm -r %s%s", "");
    snprintf(folder, sizeof folder, "%s", first);
    end();
}

static void the_audit_is_bounded(void) {
    struct ht_errmsg err;
    char value[32], text[8192], name[32];
    begin();
    edge_state_limit_audit(state, 2000);
    for (int i = 0; i < 200; i++) {
        snprintf(value, sizeof value, "%d", i);
        CU_ASSERT_EQUAL(put(EDGE_ALIAS, "a", EDGE_ANY_VERSION, "x", value, NULL, &err), HT_OK);
    }
    uint64_t next = 200;
    for (int i = 0; i < 5; i++) { /* no line is missing between the newest and the oldest that is kept */
        snprintf(name, sizeof name, i ? "audit.log.%d" : "audit.log", i);
        int n = edge_folder_read(folder, name, text, sizeof text, &err);
        CU_ASSERT_TRUE_FATAL(n > 0 && n <= 2000);
        uint64_t lines = 0;
        for (const char *p = text; (p = strchr(p, '\n')); p++)
            lines++;
        const char *first = strstr(text, "\"version\":");
        CU_ASSERT_PTR_NOT_NULL_FATAL(first);
        CU_ASSERT_EQUAL(strtoull(first + sizeof "\"version\":" - 1, NULL, 10), next - lines + 1);
        next -= lines;
    }
    CU_ASSERT_EQUAL(edge_folder_read(folder, "audit.log.5", text, sizeof text, &err), HT_EOF);
    CU_ASSERT_TRUE(next > 0);
    /* One that is larger by itself has a file of its own. */
    edge_state_limit_audit(state, 10);
    CU_ASSERT_EQUAL(put(EDGE_ALIAS, "a", EDGE_ANY_VERSION, "x", "1", NULL, &err), HT_OK);
    CU_ASSERT_TRUE(edge_folder_read(folder, "audit.log", text, sizeof text, &err) > 10);
    end();
}

static void memory_may_end(void) {
    struct ht_errmsg err;
    begin();
    CU_ASSERT_EQUAL(put(EDGE_CONTAINER, A, 0, "ip", "1", NULL, &err), HT_OK);
    for (long i = 0;; i++) {
        ht_mem_fail_at(i);
        int rc = put(EDGE_CONTAINER, B, EDGE_ANY_VERSION, "ip", "\"x\"", NULL, &err);
        bool failed = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_TRUE(rc == HT_OK || rc == HT_ENOMEM);
        if (rc == HT_ENOMEM)
            CU_ASSERT_PTR_NULL(edge_state_get(state, EDGE_CONTAINER, B));
        if (!failed)
            break;
        if (rc == HT_OK)
            CU_ASSERT_EQUAL(put(EDGE_CONTAINER, B, EDGE_ANY_VERSION, "ip", NULL, NULL, &err), HT_OK);
    }
    is(EDGE_CONTAINER, B, "ip", "\"x\"");
    edge_state_close(&state);
    pid_t pid = fork();
    if (pid == 0) { /* a journal is left to read */
        if (edge_state_open(&state, folder, &err) < 0 ||
            put(EDGE_CONTAINER, B, EDGE_ANY_VERSION, "ip", "\"y\"", NULL, &err) < 0 ||
            put(EDGE_CONTAINER, A, EDGE_ANY_VERSION, "ip", NULL, NULL, &err) < 0)
            _exit(1);
        _exit(0);
    }
    int status;
    CU_ASSERT_TRUE(waitpid(pid, &status, 0) == pid && status == 0);
    for (long i = 0;; i++) {
        edge_state_close(&state);
        ht_mem_fail_at(i);
        int rc = edge_state_open(&state, folder, &err);
        bool failed = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_TRUE(rc == HT_OK || rc == HT_ENOMEM);
        if (!failed)
            break;
    }
    is(EDGE_CONTAINER, B, "ip", "\"y\"");
    is(EDGE_CONTAINER, A, "ip", NULL);
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a change is kept, and read again", a_change_is_kept},
        {"a change that expects another version is refused, and says which it is", a_stale_version_changes_nothing},
        {"a document that was removed and made again has a version that it never had", versions_do_not_come_again},
        {"bad ids, names and values are refused, and so is what is too large or too deep", what_is_wrong_is_refused},
        {"files that are no documents are named, with their line", files_that_are_no_documents_are_named},
        {"observers are told once a change is on the disk, and documents come in order", observers_are_told},
        {"each change is a line of the audit, and without the line there is no change",
         each_change_is_a_line_of_the_audit},
        {"an end at any call loses nothing that was acknowledged, and leaves nothing half",
         an_end_at_any_call_loses_nothing},
        {"a group waits for the disk once, and is there as a whole or not at all",
         a_group_waits_once_and_falls_together},
        {"files follow, and the journal has an end", files_follow_and_the_journal_is_bounded},
        {"a copy of the folder is refused unless its edge had ended in order",
         a_copy_is_refused_unless_the_end_was_orderly},
        {"the audit has an end, too", the_audit_is_bounded},
        {"memory may end at any allocation", memory_may_end},
        {NULL, NULL},
    };
    return tap_main("state", tests);
}
