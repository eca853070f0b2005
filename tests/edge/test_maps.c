/* Maps as they are wanted, in files, and in a HAProxy of this test: whatever happens to it, it has in the end what is
 * wanted. */
#include "base/clock.h"
#include "base/mem.h"
#include "edge/edge_priv.h"
#include "support/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the program ends at a call that changes a map's file ---- */

static long left = -1; /* calls until the end; -1: none */
static bool half;      /* it ends in the middle of what it writes */

ssize_t pwrite(int fd, const void *p, size_t n, off_t at) {
    bool ends = left >= 0 && left-- == 0;
    ssize_t done = ends && !half ? 0 : syscall(SYS_pwrite64, fd, p, ends ? n / 2 : n, at);
    if (ends)
        _exit(9);
    return done;
}

static struct io_loop *loop;
#define TEST_LOOP loop
#include "support/turns.h"

/* ---- a HAProxy ---- */

#define ENTRIES 512

static struct {
    int fd;
    unsigned pid;
    unsigned asked;     /* lines of commands */
    unsigned deaf;      /* connections that are closed without an answer */
    unsigned reload_in; /* connections until another process answers, with what is in the file; 0: never */
    size_t n;
    struct {
        char key[64], value[64];
        unsigned id;
    } map[ENTRIES];
    unsigned ids;
} proxy;

static char folder[64], map_path[128];

static void proxy_load(void) {
    char line[256];
    FILE *f = fopen(map_path, "r");
    proxy.n = 0;
    proxy.pid++;
    while (f && fgets(line, sizeof line, f))
        if (line[0] != '#' && sscanf(line, "%63s %63s", proxy.map[proxy.n].key, proxy.map[proxy.n].value) == 2)
            proxy.map[proxy.n++].id = ++proxy.ids;
    if (f)
        fclose(f);
}

static const char *proxy_find(const char *key) {
    for (size_t i = 0; i < proxy.n; i++)
        if (strcmp(proxy.map[i].key, key) == 0)
            return proxy.map[i].value;
    return NULL;
}

static unsigned proxy_count(const char *key) {
    unsigned n = 0;
    for (size_t i = 0; i < proxy.n; i++)
        n += strcmp(proxy.map[i].key, key) == 0;
    return n;
}

static void proxy_add(const char *key, const char *value) {
    snprintf(proxy.map[proxy.n].key, sizeof proxy.map[0].key, "%s", key);
    proxy.map[proxy.n].id = ++proxy.ids;
    snprintf(proxy.map[proxy.n++].value, sizeof proxy.map[0].value, "%s", value);
}

static bool proxy_del(const char *key) {
    size_t kept = 0, n = proxy.n;
    unsigned long one = key[0] == '#' ? strtoul(key + sizeof "#0x55d0" - 1, NULL, 16) : 0;
    for (size_t i = 0; i < n; i++)
        if (proxy.map[i].id != one && strcmp(proxy.map[i].key, key) != 0)
            proxy.map[kept++] = proxy.map[i];
    proxy.n = kept;
    return kept < n;
}

static bool proxy_set(const char *key, const char *value) {
    bool found = false;
    for (size_t i = 0; i < proxy.n; i++)
        if (strcmp(proxy.map[i].key, key) == 0) {
            snprintf(proxy.map[i].value, sizeof proxy.map[0].value, "%s", value);
            found = true;
        }
    return found;
}

static void proxy_show(struct ht_buf *out) {
    for (size_t i = 0; i < proxy.n; i++)
        CU_ASSERT_EQUAL(ht_buf_printf(out, "0x55d0%04x %s %s\n", proxy.map[i].id, proxy.map[i].key, proxy.map[i].value),
                        0);
}

static void proxy_command(struct ht_buf *out, const char *text) {
    char verb[8], path[128], key[64] = "", value[64] = "";
    if (strcmp(text, "show info") == 0) {
        CU_ASSERT_EQUAL(
            ht_buf_printf(out, "Name: HAProxy\nVersion: 2.6.12\nNbthread: 2\nPid: %u\nUptime: 1\n\n", proxy.pid), 0);
        return;
    }
    CU_ASSERT_TRUE(sscanf(text, "%7s map %127s %63s %63s", verb, path, key, value) >= 2);
    if (strcmp(path, map_path) != 0) { /* another map, which is empty */
        CU_ASSERT_STRING_EQUAL(verb, "show");
        CU_ASSERT_EQUAL(ht_buf_append_str(out, "\n"), 0);
        return;
    }
    bool ok = true;
    if (strcmp(verb, "show") == 0)
        proxy_show(out);
    else if (strcmp(verb, "add") == 0)
        proxy_add(key, value);
    else if (strcmp(verb, "set") == 0)
        ok = proxy_set(key, value);
    else
        ok = proxy_del(key);
    CU_ASSERT_EQUAL(ht_buf_append_str(out, ok ? "\n" : "entry not found.\n\n"), 0);
}

/* Answers one connection, if there is one. */
static void proxy_serve(void) {
    static char line[65536];
    size_t n = 0;
    int c = accept(proxy.fd, NULL, NULL);
    if (c < 0)
        return;
    proxy.asked++;
    if (proxy.reload_in && --proxy.reload_in == 0)
        proxy_load();
    while (n < sizeof line - 1 && !memchr(line, '\n', n)) {
        ssize_t got = read(c, line + n, sizeof line - 1 - n);
        if (got < 0 && errno == EAGAIN) {
            io_loop_turn(loop, false);
            continue;
        }
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    line[n] = '\0';
    struct ht_buf out = {0};
    char *save = NULL;
    for (char *one = strtok_r(line, ";\n", &save); one && !proxy.deaf; one = strtok_r(NULL, ";\n", &save))
        proxy_command(&out, one);
    if (proxy.deaf)
        proxy.deaf--;
    ssize_t written = write(c, ht_buf_head(&out), ht_buf_size(&out));
    CU_ASSERT_EQUAL(written, (ssize_t)ht_buf_size(&out));
    ht_buf_free(&out);
    close(c);
}

/* ---- around each test ---- */

static struct edge_admin *admin;
static struct edge_maps *maps;

static void begin(void) {
    struct ht_errmsg err = {""};
    snprintf(folder, sizeof folder, "/tmp/ht-edge-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    CU_ASSERT_EQUAL_FATAL(edge_folder_make(folder, &err), HT_OK);
    snprintf(map_path, sizeof map_path, "%s/haproxy/maps/bindings.map", folder);
    memset(&proxy, 0, sizeof proxy);
    proxy.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    char path[EDGE_PATH];
    struct io_addr at = io_addr_of_path(edge_path(folder, "run/admin.sock", path));
    CU_ASSERT_EQUAL_FATAL(bind(proxy.fd, (struct sockaddr *)&at.ss, at.len), 0);
    CU_ASSERT_EQUAL_FATAL(listen(proxy.fd, 16), 0);
    loop = io_loop_create();
    admin = edge_admin_create(loop, folder, EDGE_ADMIN_OF_WORKER);
    maps = edge_maps_create(loop, folder, admin);
    CU_ASSERT_PTR_NOT_NULL_FATAL(maps);
    CU_ASSERT_EQUAL_FATAL(edge_maps_write(maps, &err), HT_OK);
    proxy_load();
}

static void end(void) {
    char line[128];
    edge_admin_destroy(&admin);
    edge_maps_destroy(&maps);
    io_loop_destroy(&loop);
    close(proxy.fd);
    snprintf(line, sizeof line, "rm -r %s", folder);
    CU_ASSERT_EQUAL(system(line), 0);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

static void set(const char *key, const char *value) {
    CU_ASSERT_EQUAL(edge_maps_set(maps, HAPROXY_MAP_BINDINGS, key, value), HT_OK);
}

static void drop(const char *key) { edge_maps_remove(maps, HAPROXY_MAP_BINDINGS, key); }

static bool proxy_has(const char *key, const char *value) {
    const char *found = proxy_find(key);
    proxy_serve();
    return value ? found && proxy_count(key) == 1 && strcmp(found, value) == 0 : !found;
}

static bool follows(void) {
    proxy_serve();
    return edge_maps_pid(maps) == proxy.pid;
}

static bool file_has(const char *line) {
    static char text[65536];
    struct ht_errmsg err;
    char blank[80];
    snprintf(blank, sizeof blank, "\n %s", line);
    text[0] = '\n';
    return edge_folder_read(folder, "haproxy/maps/bindings.map", text + 1, sizeof text - 1, &err) >= 0 &&
           (strstr(text, blank) || strstr(text, blank + 2) == text + 1);
}

/* The first value that a HAProxy finds which starts now; NULL: none. */
static const char *file_value(const char *key) {
    static char value[64];
    char line[256], name[64];
    bool found = false;
    FILE *f = fopen(map_path, "r");
    while (f && !found && fgets(line, sizeof line, f))
        found = line[0] != '#' && sscanf(line, "%63s %63s", name, value) == 2 && strcmp(name, key) == 0;
    if (f)
        fclose(f);
    return found ? value : NULL;
}

/* ---- the tests ---- */

static void changes_reach_file_and_socket(void) {
    begin();
    edge_maps_compare(maps);
    UNTIL(follows());
    set("a.example.com", "1|2");
    set("b.example.com", "3|4");
    UNTIL(proxy_has("a.example.com", "1|2") && proxy_has("b.example.com", "3|4"));
    CU_ASSERT_TRUE(file_has("a.example.com 1|2\n") && file_has("b.example.com 3|4\n"));
    set("a.example.com", "5|6");
    UNTIL(proxy_has("a.example.com", "5|6"));
    unsigned asked = proxy.asked;
    set("a.example.com", "5|6"); /* as it is */
    settle();
    CU_ASSERT_EQUAL(proxy.asked, asked);
    drop("b.example.com");
    drop("c.example.com");
    UNTIL(proxy_has("b.example.com", NULL));
    CU_ASSERT_PTR_NULL(file_value("b.example.com"));
    CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_BINDINGS), 1);
    CU_ASSERT_STRING_EQUAL(edge_maps_get(maps, HAPROXY_MAP_BINDINGS, "a.example.com"), "5|6");
    CU_ASSERT_PTR_NULL(edge_maps_get(maps, HAPROXY_MAP_BINDINGS, "b.example.com"));
    drop("a.example.com"); /* and back, before anybody was told */
    set("a.example.com", "7|8");
    UNTIL(proxy_has("a.example.com", "7|8"));
    end();
}

/* The file has a change before HAProxy is told of it. */
static void the_file_comes_first(void) {
    begin();
    set("a.example.com", "1|2");
    settle();
    CU_ASSERT_TRUE(file_has("a.example.com 1|2\n"));
    CU_ASSERT_EQUAL(proxy.asked, 0); /* it is held: nobody has said that it serves */
    proxy_load();
    edge_maps_compare(maps);
    UNTIL(follows());
    CU_ASSERT_TRUE(proxy_has("a.example.com", "1|2"));
    end();
}

static void what_is_foreign_goes_and_what_is_missing_comes(void) {
    begin();
    set("a.example.com", "1|2");
    set("b.example.com", "1|2");
    set("c.example.com", "1|2");
    proxy_add("a.example.com", "old");
    proxy_add("c.example.com", "1|2");
    proxy_add("c.example.com", "twice");
    proxy_add("x.example.com", "foreign");
    proxy_add("x.example.com", "twice");
    edge_maps_compare(maps);
    UNTIL(proxy_has("a.example.com", "1|2") && proxy_has("b.example.com", "1|2") && proxy_has("x.example.com", NULL));
    UNTIL(proxy_has("c.example.com", "1|2"));
    end();
}

/* Another process answers: somebody has had it load its files while changes were under way. */
static void a_reload_in_between_loses_nothing(void) {
    for (unsigned at = 1; at < 8; at++) {
        begin();
        edge_maps_compare(maps);
        UNTIL(follows());
        proxy.reload_in = at;
        char key[32];
        for (int i = 0; i < 6; i++) {
            snprintf(key, sizeof key, "h%d.example.com", i);
            set(key, "1|2");
            one_turn();
            proxy_serve();
        }
        drop("h3.example.com");
        ht_clock_skip(2000000);
        UNTIL(follows() && proxy.reload_in == 0);
        UNTIL(follows() && proxy_has("h0.example.com", "1|2") && proxy_has("h5.example.com", "1|2") &&
              proxy_has("h3.example.com", NULL));
        CU_ASSERT_EQUAL(proxy.n, 5);
        end();
    }
}

/* A value that is there since they were compared changes by the entry's name; one that has come since by its key. */
static void an_entry_changes_by_its_name(void) {
    begin();
    set("a.example.com", "1|2");
    settle();
    proxy_load();
    edge_maps_compare(maps);
    UNTIL(follows());
    for (int i = 0; i < 4; i++) {
        char value[16];
        unsigned id = proxy.map[0].id;
        snprintf(value, sizeof value, "%d", i);
        set("a.example.com", value);
        UNTIL(proxy_has("a.example.com", value));
        CU_ASSERT_EQUAL(proxy.map[0].id != id, i == 0);
        settle();
    }
    drop("a.example.com");
    UNTIL(proxy_has("a.example.com", NULL));
    set("a.example.com", "9");
    UNTIL(proxy_has("a.example.com", "9"));
    set("a.example.com", "10");
    UNTIL(proxy_has("a.example.com", "10"));
    end();
}

static void a_deaf_proxy_is_asked_again(void) {
    begin();
    edge_maps_compare(maps);
    UNTIL(follows());
    proxy.deaf = 3;
    set("a.example.com", "1|2");
    UNTIL((proxy_serve(), proxy.deaf == 0));
    UNTIL(follows() && proxy_has("a.example.com", "1|2"));
    end();
}

static void refused_changes_are_compared(void) {
    begin();
    edge_maps_compare(maps);
    UNTIL(follows());
    set("a.example.com", "1|2");
    set("b.example.com", "1|2");
    UNTIL(proxy_has("b.example.com", "1|2"));
    proxy_del("a.example.com"); /* by somebody else */
    proxy_del("b.example.com");
    set("a.example.com", "3|4");
    UNTIL(proxy_has("a.example.com", "3|4") && proxy_has("b.example.com", "1|2"));
    end();
}

static void many_entries_take_several_lines(void) {
    begin();
    char key[32];
    edge_maps_compare(maps);
    UNTIL(follows());
    for (int i = 0; i < 400; i++) {
        snprintf(key, sizeof key, "h%d.example.com", i);
        set(key, "192.0.2.1|65535|*|live");
    }
    UNTIL((proxy_serve(), proxy.n == 400));
    UNTIL(follows());
    CU_ASSERT_TRUE(proxy.asked > 3);
    end();
}

/* ---- the file, line by line ---- */

static struct stat stat_of_file(void) {
    struct stat st = {0};
    CU_ASSERT_EQUAL(stat(map_path, &st), 0);
    return st;
}

/* One change of many writes one line, and the file is written anew only when most of it is of the past. */
static void a_change_writes_a_line(void) {
    begin();
    char key[32], value[16];
    for (int i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "h%d.example.com", i);
        set(key, "1|2");
    }
    settle();
    struct stat was = stat_of_file();
    set("h7.example.com", "3|4");
    drop("h8.example.com");
    set("new.example.com", "5|6");
    set("gone.example.com", "5|6");
    drop("gone.example.com");
    settle();
    struct stat now = stat_of_file();
    CU_ASSERT_EQUAL(now.st_ino, was.st_ino);
    CU_ASSERT_TRUE(now.st_size > was.st_size && now.st_size < was.st_size + 80);
    CU_ASSERT_STRING_EQUAL(file_value("h7.example.com"), "3|4");
    CU_ASSERT_STRING_EQUAL(file_value("new.example.com"), "5|6");
    CU_ASSERT_PTR_NULL(file_value("h8.example.com"));
    CU_ASSERT_PTR_NULL(file_value("gone.example.com"));
    for (int i = 0; i < 6000; i++) {
        snprintf(value, sizeof value, "%d", i);
        set("h7.example.com", value);
        one_turn();
    }
    CU_ASSERT_NOT_EQUAL(stat_of_file().st_ino, was.st_ino);
    CU_ASSERT_TRUE(stat_of_file().st_size < 200000);
    CU_ASSERT_STRING_EQUAL(file_value("h7.example.com"), "5999");
    CU_ASSERT_STRING_EQUAL(file_value("h0.example.com"), "1|2");
    CU_ASSERT_PTR_NULL(file_value("h8.example.com"));
    end();
}

/* What a HAProxy finds that starts by itself once the agent is gone: the old value or the new one of the change that
 * was under way, whatever came before it, and no key that was never there. */
static bool killed_at(long calls, bool cut) {
    int status;
    begin();
    set("a.example.com", "10.0.0.11|open");
    set("b.example.com", "10.0.0.12|open");
    settle();
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        left = calls;
        half = cut;
        set("a.example.com", "10.0.0.99|ask");
        settle();
        drop("b.example.com");
        settle();
        set("c.example.com", "10.0.0.13|ask");
        settle();
        _exit(0);
    }
    CU_ASSERT_EQUAL_FATAL(waitpid(pid, &status, 0), pid);
    proxy_load();
    const char *a = proxy_find("a.example.com"), *b = proxy_find("b.example.com"), *c = proxy_find("c.example.com");
    CU_ASSERT_PTR_NOT_NULL_FATAL(a);
    bool a_old = strcmp(a, "10.0.0.11|open") == 0, a_new = strcmp(a, "10.0.0.99|ask") == 0;
    CU_ASSERT_TRUE(a_old || a_new);
    CU_ASSERT_TRUE(b ? strcmp(b, "10.0.0.12|open") == 0 : a_new);
    CU_ASSERT_TRUE(!c || (a_new && !b && strcmp(c, "10.0.0.13|ask") == 0));
    for (size_t i = 0; i < proxy.n; i++)
        CU_ASSERT_TRUE(strchr("abc", proxy.map[i].key[0]) && strcmp(proxy.map[i].key + 1, ".example.com") == 0);
    bool whole = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    CU_ASSERT_TRUE(!whole || (a_new && !b && c));
    end();
    return !whole;
}

static void who_is_killed_leaves_a_good_file(void) {
    long calls = 0;
    for (; killed_at(calls, false); calls++)
        killed_at(calls, true);
    CU_ASSERT_EQUAL(calls, 6); /* a line, two bytes of it and the old one; a byte; a line and a byte */
}

static void a_file_that_memory_or_disk_fails_is_written_anew(void) {
    begin();
    set("a.example.com", "1");
    settle();
    for (long i = 0; i < 12; i++) {
        char value[32];
        snprintf(value, sizeof value, "%ld", 100 + i);
        set("a.example.com", value);
        ht_mem_fail_at(i);
        one_turn();
        ht_mem_fail_at(-1);
        ht_clock_skip(1000000);
        settle();
        CU_ASSERT_STRING_EQUAL(file_value("a.example.com"), value);
    }
    end();
}

/* ---- the folder ---- */

static void folders_are_for_one(void) {
    struct ht_errmsg err;
    begin();
    int lock = edge_folder_lock(folder, &err);
    CU_ASSERT_TRUE(lock >= 0);
    CU_ASSERT_EQUAL(edge_folder_lock(folder, &err), HT_EINUSE);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "another edge works in the folder"));
    close(lock);
    lock = edge_folder_lock(folder, &err);
    CU_ASSERT_TRUE(lock >= 0);
    close(lock);
    CU_ASSERT_EQUAL(chmod(folder, 0755), 0);
    CU_ASSERT_EQUAL(edge_folder_make(folder, &err), HT_OK);
    struct stat st;
    CU_ASSERT_EQUAL(stat(folder, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 0777, 0700);
    static const char *const bad[] = {"relative", "/tmp/a b", "/tmp/a,b", "/tmp/a)b", "/tmp/\"", "/tmp/a\nb"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++)
        CU_ASSERT_EQUAL(edge_folder_make(bad[i], &err), HT_EINVAL);
    end();
}

static void files_are_replaced_whole(void) {
    struct ht_errmsg err;
    char text[64], path[EDGE_PATH], target[EDGE_PATH];
    begin();
    CU_ASSERT_EQUAL(edge_folder_write(folder, "state/a.json", ht_slice_str("one"), true, &err), HT_OK);
    CU_ASSERT_EQUAL(edge_folder_write(folder, "state/a.json", ht_slice_str("three"), true, &err), HT_OK);
    CU_ASSERT_EQUAL(edge_folder_read(folder, "state/a.json", text, sizeof text, &err), 5);
    CU_ASSERT_STRING_EQUAL(text, "three");
    CU_ASSERT_EQUAL(edge_folder_read(folder, "state/a.json", text, 5, &err), HT_EIO);
    CU_ASSERT_EQUAL(edge_folder_read(folder, "state/b.json", text, sizeof text, &err), HT_EOF);
    CU_ASSERT_NOT_EQUAL(access(edge_path(folder, "state/a.json.part", path), F_OK), 0);
    /* A link that somebody has put there is not written through. */
    CU_ASSERT_EQUAL(symlink(edge_path(folder, "state/target", target), edge_path(folder, "state/c.json.part", path)),
                    0);
    CU_ASSERT_EQUAL(edge_folder_write(folder, "state/c.json", ht_slice_str("x"), true, &err), HT_EIO);
    CU_ASSERT_NOT_EQUAL(access(target, F_OK), 0);
    CU_ASSERT_EQUAL(edge_folder_write(folder, "nowhere/a", ht_slice_str("x"), false, &err), HT_EIO);
    end();
}

/* ---- the configuration ---- */

static void each_setting_stands_in_the_configuration(void) {
    struct edge_settings s;
    struct ht_buf text = {0}, none = {0};
    char values[HAPROXY_SETTINGS][24];
    for (int i = 0; i < HAPROXY_SETTINGS; i++) {
        snprintf(values[i], sizeof values[i], "value-%d-", i);
        s.values[i] = values[i];
    }
    CU_ASSERT_EQUAL(edge_render(&text, &haproxy_config, &s), HT_OK);
    CU_ASSERT_EQUAL(ht_buf_append(&text, "", 1), 0);
    for (int i = 0; i < HAPROXY_SETTINGS; i++)
        CU_ASSERT_PTR_NOT_NULL(strstr((const char *)ht_buf_head(&text), values[i]));
    s = (struct edge_settings){.values = {NULL}};
    CU_ASSERT_EQUAL(edge_render(&none, &haproxy_config, &s), HT_OK);
    CU_ASSERT_TRUE(ht_buf_size(&none) < ht_buf_size(&text));
    ht_buf_free(&text);
    ht_buf_free(&none);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a change reaches the file and HAProxy; what is as it was is not told", changes_reach_file_and_socket},
        {"the file comes first, and HAProxy is told nothing while it is held", the_file_comes_first},
        {"entries of others go, missing ones come", what_is_foreign_goes_and_what_is_missing_comes},
        {"a reload in between, at each connection, loses no change", a_reload_in_between_loses_nothing},
        {"an entry changes by its name while that is known", an_entry_changes_by_its_name},
        {"a HAProxy that does not answer is asked again", a_deaf_proxy_is_asked_again},
        {"a change that HAProxy refuses leads to a comparison", refused_changes_are_compared},
        {"many entries take several lines", many_entries_take_several_lines},
        {"a change of many entries writes a line; the file does not grow without end", a_change_writes_a_line},
        {"killed at any write, it leaves a file without a gap", who_is_killed_leaves_a_good_file},
        {"where memory ends, the file is written anew", a_file_that_memory_or_disk_fails_is_written_anew},
        {"a folder is for one edge and one user", folders_are_for_one},
        {"a file is the old or the new one, and no link leads it astray", files_are_replaced_whole},
        {"each setting stands in the configuration", each_setting_stands_in_the_configuration},
        {NULL, NULL},
    };
    return tap_main("maps", tests);
}
