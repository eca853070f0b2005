/* Certificates in files, in a list, and in a HAProxy of this test: whatever happens to it and to us, it shows in the
 * end what is wanted, each name once. */
#include "base/clock.h"
#include "base/mem.h"
#include "edge/certs.h"
#include "support/clock_ahead.h"
#include "support/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct io_loop *loop;
#define TEST_LOOP loop
#include "support/turns.h"

#define PATH 256
#define TEXT 256
#define CERTS 16

/* What happens to the connection number `at`, from 1. */
enum trouble { NO_TROUBLE, NOT_HEARD, NOT_ANSWERED, LOADS_ANEW, N_TROUBLES };

/* ---- a HAProxy; it allocates nothing ---- */

static struct {
    int fd;
    unsigned pid, asked, at;
    enum trouble trouble;
    struct {
        char path[PATH], text[TEXT]; /* "": nothing was committed yet */
    } cert[CERTS];
    struct {
        char path[PATH], name[PATH];
    } list[CERTS];
    size_t n, n_list;
    char transaction[PATH], text[TEXT]; /* "": none */
    char out[8192];
    size_t n_out;
} proxy;

static char folder[64];
static struct edge_admin *admin;
static struct edge_certs *certs;
static unsigned settled_times, refused_times;

static void say(const char *text) {
    proxy.n_out += (size_t)snprintf(proxy.out + proxy.n_out, sizeof proxy.out - proxy.n_out, "%s\n", text);
}

static int cert_of(const char *path) {
    for (size_t i = 0; i < proxy.n; i++)
        if (strcmp(proxy.cert[i].path, path) == 0)
            return (int)i;
    return -1;
}

static unsigned listed(const char *path) {
    unsigned n = 0;
    for (size_t i = 0; i < proxy.n_list; i++)
        n += strcmp(proxy.list[i].path, path) == 0;
    return n;
}

static void read_whole(const char *path, char out[TEXT]) {
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(out, 1, TEXT - 1, f) : 0;
    out[n] = '\0';
    if (f)
        fclose(f);
}

/* Another process, with what is in the files. */
static void proxy_load(void) {
    char path[PATH], line[2 * PATH];
    snprintf(path, sizeof path, "%s/" HAPROXY_ACME_LIST, folder);
    FILE *f = fopen(path, "r");
    proxy.pid++;
    proxy.n = proxy.n_list = 0;
    proxy.transaction[0] = '\0';
    while (f && fgets(line, sizeof line, f)) {
        CU_ASSERT_EQUAL_FATAL(sscanf(line, "%255s %255s", proxy.list[proxy.n_list].path, proxy.list[proxy.n_list].name),
                              2);
        memcpy(proxy.cert[proxy.n].path, proxy.list[proxy.n_list++].path, PATH);
        read_whole(proxy.cert[proxy.n].path, proxy.cert[proxy.n].text);
        CU_ASSERT_NOT_EQUAL(proxy.cert[proxy.n].text[0], '\0'); /* HAProxy would not start */
        proxy.n++;
    }
    if (f)
        fclose(f);
}

static void new_cert(const char *path) {
    if (cert_of(path) >= 0) {
        say("Certificate already exists!");
        return;
    }
    CU_ASSERT_FATAL(proxy.n < CERTS);
    snprintf(proxy.cert[proxy.n].path, PATH, "%s", path);
    proxy.cert[proxy.n++].text[0] = '\0';
    say("New empty certificate store!");
}

static void set_cert(const char *path, const char *text) {
    bool again = strcmp(proxy.transaction, path) == 0;
    if (strstr(path, "refused")) {
        say("unable to load certificate chain from file");
    } else if (cert_of(path) < 0) {
        say("Can't replace a certificate which is not referenced by the configuration!");
    } else if (proxy.transaction[0] && !again) {
        say("The ongoing transaction is about another one!");
    } else {
        snprintf(proxy.transaction, PATH, "%s", path);
        snprintf(proxy.text, TEXT, "%s", text);
        say(again ? "Transaction updated for certificate!" : "Transaction created for certificate!");
    }
}

static void commit_cert(const char *path) {
    if (strcmp(proxy.transaction, path) != 0) {
        say("No ongoing transaction!");
        return;
    }
    memcpy(proxy.cert[cert_of(path)].text, proxy.text, TEXT);
    proxy.transaction[0] = '\0';
    say("Committing.\nSuccess!");
}

static void abort_cert(const char *path) {
    bool ours = strcmp(proxy.transaction, path) == 0;
    if (ours)
        proxy.transaction[0] = '\0';
    say(ours ? "Transaction aborted for certificate!" : "No ongoing transaction!");
}

static void add_entry(const char *text) {
    char path[PATH] = "", name[PATH] = "";
    CU_ASSERT_EQUAL(sscanf(text, "%255s %255s", path, name), 2);
    int at = cert_of(path);
    if (at < 0 || !proxy.cert[at].text[0]) {
        say("Can't edit the crt-list: certificate is not there or empty!");
        return;
    }
    CU_ASSERT_FATAL(proxy.n_list < CERTS);
    snprintf(proxy.list[proxy.n_list].path, PATH, "%s", path);
    snprintf(proxy.list[proxy.n_list++].name, PATH, "%s", name);
    say("Inserting certificate in crt-list.\nSuccess!");
}

static void del_entry(const char *path) {
    size_t kept = 0, n = proxy.n_list;
    for (size_t i = 0; i < n; i++)
        if (strcmp(proxy.list[i].path, path) != 0)
            proxy.list[kept++] = proxy.list[i];
    proxy.n_list = kept;
    say(kept < n ? "Entry deleted in crtlist!" : "Can't delete the entry: certificate does not exist!");
}

static void del_cert(const char *path) {
    int at = cert_of(path);
    if (at < 0 || listed(path)) {
        say("unable to delete certificate: in use, or not there!");
        return;
    }
    proxy.cert[at] = proxy.cert[--proxy.n];
    say("Certificate deleted!");
}

static void one_command(char *text, const char *payload) {
    char list[PATH], path[PATH] = "";
    char *mark = strstr(text, " <<");
    if (mark)
        *mark = '\0';
    if (strcmp(text, "show info") == 0) {
        char info[128];
        snprintf(info, sizeof info, "Name: HAProxy\nVersion: 2.6.12\nNbthread: 2\nPid: %u\nUptime: 1\n", proxy.pid);
        say(info);
    } else if (sscanf(text, "new ssl cert %255s", path) == 1) {
        new_cert(path);
    } else if (sscanf(text, "set ssl cert %255s", path) == 1) {
        set_cert(path, payload);
    } else if (sscanf(text, "commit ssl cert %255s", path) == 1) {
        commit_cert(path);
    } else if (sscanf(text, "abort ssl cert %255s", path) == 1) {
        abort_cert(path);
    } else if (sscanf(text, "add ssl crt-list %255s", list) == 1) {
        add_entry(payload);
    } else if (sscanf(text, "del ssl crt-list %255s %255s", list, path) == 2) {
        del_entry(path);
    } else if (sscanf(text, "del ssl cert %255s", path) == 1) {
        del_cert(path);
    } else {
        CU_FAIL("a command that HAProxy does not know");
    }
}

/* A line of commands, and behind it a payload up to an empty line when the last one ends with "<<". */
static bool heard(char *text, size_t n, char **payload) {
    char *end = memchr(text, '\n', n);
    if (!end)
        return false;
    *payload = end + 1;
    if (end - text < 2 || end[-1] != '<')
        return true;
    char *last = strstr(end, "\n\n");
    if (last)
        last[1] = '\0';
    return last != NULL;
}

/* Answers one connection, if there is one. */
static void proxy_serve(void) {
    static char text[65536];
    char *payload = NULL, *save = NULL;
    size_t n = 0;
    int c = accept(proxy.fd, NULL, NULL);
    if (c < 0)
        return;
    enum trouble trouble = ++proxy.asked == proxy.at ? proxy.trouble : NO_TROUBLE;
    for (text[0] = '\0'; n < sizeof text - 1 && !heard(text, n, &payload);) {
        ssize_t got = read(c, text + n, sizeof text - 1 - n);
        if (got < 0 && errno == EAGAIN) {
            io_loop_turn(loop, false);
            continue;
        }
        if (got <= 0)
            break;
        text[n += (size_t)got] = '\0';
    }
    if (trouble == LOADS_ANEW) {
        struct ht_errmsg err;
        close(c);
        edge_certs_hold(certs);
        CU_ASSERT_EQUAL(edge_certs_write(certs, &err), HT_OK);
        proxy_load();
        edge_certs_go(certs);
        return;
    }
    proxy.n_out = 0;
    if (payload && payload[-1] == '\n')
        payload[-1] = '\0';
    for (char *one = strtok_r(text, ";", &save); payload && one && trouble != NOT_HEARD;
         one = strtok_r(NULL, ";", &save))
        one_command(one, payload);
    if (trouble == NO_TROUBLE && payload)
        (void)send(c, proxy.out, proxy.n_out, MSG_NOSIGNAL); /* who had no memory may be gone */
    close(c);
}

/* ---- around each test ---- */

static struct {
    const char *name;
    enum edge_cert_from from; /* EDGE_CERT_FROM: none */
    int version;
} wanted[] = {
    {"a.example", EDGE_CERT_FROM, 0}, {"b.example", EDGE_CERT_FROM, 0}, {"refused.example", EDGE_CERT_FROM, 0}};

static void on_settled(void *ctx) {
    (void)ctx;
    settled_times++;
}

static void on_refused(void *ctx, const char *name, const char *why) {
    (void)ctx;
    CU_ASSERT_STRING_EQUAL(name, "refused.example");
    CU_ASSERT_PTR_NOT_NULL(strstr(why, "unable to load"));
    refused_times++;
}

static bool is_known(void *ctx, const char *name, enum edge_cert_from from) {
    (void)ctx;
    for (size_t i = 0; i < HT_ARRAY_LEN(wanted); i++)
        if (strcmp(wanted[i].name, name) == 0)
            return wanted[i].from == from;
    return false;
}

static struct edge_certs *create(void) {
    static const struct edge_certs_ops ops = {.settled = on_settled, .refused = on_refused, .known = is_known};
    return edge_certs_create(loop, folder, admin, &ops, NULL);
}

static void begin(void) {
    struct ht_errmsg err = {""};
    char path[EDGE_PATH];
    snprintf(folder, sizeof folder, "/tmp/ht-edge-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    CU_ASSERT_EQUAL_FATAL(edge_folder_make(folder, &err), HT_OK);
    memset(&proxy, 0, sizeof proxy);
    proxy.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct io_addr at = io_addr_of_path(edge_path(folder, "run/admin.sock", path));
    CU_ASSERT_EQUAL_FATAL(bind(proxy.fd, (struct sockaddr *)&at.ss, at.len), 0);
    CU_ASSERT_EQUAL_FATAL(listen(proxy.fd, 16), 0);
    loop = io_loop_create();
    admin = edge_admin_create(loop, folder, EDGE_ADMIN_OF_WORKER);
    certs = create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(certs);
    CU_ASSERT_EQUAL_FATAL(edge_certs_write(certs, &err), HT_OK);
    proxy_load();
    edge_certs_go(certs);
    settled_times = refused_times = 0;
    for (size_t i = 0; i < HT_ARRAY_LEN(wanted); i++)
        wanted[i].from = EDGE_CERT_FROM;
}

static void end(void) {
    char line[128];
    edge_admin_destroy(&admin);
    edge_certs_destroy(&certs);
    io_loop_destroy(&loop);
    close(proxy.fd);
    snprintf(line, sizeof line, "rm -r %s", folder);
    CU_ASSERT_EQUAL(system(line), 0);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

static void pem_of(int version, char out[TEXT]) {
    snprintf(out, TEXT,
             "-----BEGIN CERTIFICATE-----\nAAA%d\n-----END CERTIFICATE-----\n"
             "-----BEGIN PRIVATE KEY-----\nBBB%d\n-----END PRIVATE KEY-----\n",
             version % 10, version % 10);
}

/* What HAProxy shows, and its list's file, are what is wanted, and nothing else. */
static bool all_as_wanted(void) {
    char path[PATH], pem[TEXT], list[TEXT * 4] = "", file[TEXT];
    size_t n = 0, at = 0;
    for (size_t i = 0; i < HT_ARRAY_LEN(wanted); i++) {
        if (wanted[i].from == EDGE_CERT_FROM)
            continue;
        snprintf(path, sizeof path, "%s/%s/%s.pem", folder, edge_cert_folders[wanted[i].from], wanted[i].name);
        pem_of(wanted[i].version, pem);
        if (listed(path) != 1 || cert_of(path) < 0 || strcmp(proxy.cert[cert_of(path)].text, pem) != 0)
            return false;
        at += (size_t)snprintf(list + at, sizeof list - at, "%s %s\n", path, wanted[i].name);
        n++;
    }
    snprintf(path, sizeof path, "%s/" HAPROXY_ACME_LIST, folder);
    read_whole(path, file);
    return proxy.n == n && proxy.n_list == n && !proxy.transaction[0] && strcmp(file, list) == 0;
}

static void follow(void) {
    for (int i = 0; i < 3000 && !(settled_times && all_as_wanted()); i++) {
        one_turn();
        proxy_serve();
        clock_ahead_ms += 10;
    }
    CU_ASSERT_TRUE(settled_times > 0);
    CU_ASSERT_TRUE_FATAL(all_as_wanted());
    settled_times = 0;
}

/* Twice, for who had no memory the first time. */
static void put(size_t which, enum edge_cert_from from, int version) {
    char pem[TEXT];
    struct ht_errmsg err = {""};
    pem_of(version, pem);
    wanted[which].from = from;
    wanted[which].version = version;
    int rc = edge_certs_put(certs, wanted[which].name, from, ht_slice_str(pem), &err);
    if (rc < 0)
        rc = edge_certs_put(certs, wanted[which].name, from, ht_slice_str(pem), &err);
    CU_ASSERT_EQUAL(rc, HT_OK);
}

static void drop(size_t which) {
    wanted[which].from = EDGE_CERT_FROM;
    edge_certs_drop(certs, wanted[which].name);
}

/* All that can be wanted of two names: new, renewed, brought instead, both at once, once more while HAProxy is told,
 * and gone. */
static void play(void) {
    put(0, EDGE_CERT_ISSUED, 1);
    follow();
    put(0, EDGE_CERT_ISSUED, 2);
    follow();
    put(0, EDGE_CERT_BROUGHT, 3);
    put(1, EDGE_CERT_ISSUED, 4);
    follow();
    put(1, EDGE_CERT_ISSUED, 5);
    one_turn();
    proxy_serve();
    put(1, EDGE_CERT_BROUGHT, 6);
    follow();
    drop(0);
    put(1, EDGE_CERT_ISSUED, 7);
    follow();
    drop(1);
    follow();
}

/* ---- tests ---- */

static void what_is_wanted_is_shown(void) {
    begin();
    play();
    end();
}

static void haproxy_does_not_listen(void) {
    for (enum trouble t = NOT_HEARD; t < N_TROUBLES; t++) {
        unsigned asked = 100;
        for (unsigned at = 1; at <= asked; at++) {
            begin();
            proxy.trouble = t;
            proxy.at = at;
            play();
            asked = ht_min(asked, proxy.asked);
            end();
        }
        CU_ASSERT_TRUE(asked > 10 && asked < 100);
    }
}

static void no_memory(void) {
    bool hit = true;
    long i = 0;
    for (; hit; i++) {
        begin();
        ht_mem_fail_at(i);
        play();
        hit = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        end();
    }
    CU_ASSERT_TRUE(i > 50);
}

static void one_that_haproxy_does_not_take(void) {
    begin();
    put(0, EDGE_CERT_ISSUED, 1);
    put(2, EDGE_CERT_ISSUED, 2);
    wanted[2].from = EDGE_CERT_FROM;
    put(1, EDGE_CERT_ISSUED, 3);
    follow();
    CU_ASSERT_EQUAL(refused_times, 1);
    end();
}

/* Files of what is shown no more go after a while, as do those of names that nobody knows; others stay. */
static void files_go_last(void) {
    char path[PATH], text[TEXT];
    begin();
    put(0, EDGE_CERT_ISSUED, 1);
    put(1, EDGE_CERT_ISSUED, 2);
    follow();
    drop(0);
    follow();
    snprintf(path, sizeof path, "%s/certs/a.example.pem", folder);
    read_whole(path, text);
    CU_ASSERT_NOT_EQUAL(text[0], '\0'); /* a HAProxy that has read the list before reads it yet */
    for (int i = 0; i < 3000 && text[0]; i++) {
        one_turn();
        clock_ahead_ms += 10;
        read_whole(path, text);
    }
    CU_ASSERT_EQUAL(text[0], '\0');
    snprintf(path, sizeof path, "%s/certs/b.example.pem", folder);
    read_whole(path, text);
    CU_ASSERT_NOT_EQUAL(text[0], '\0');
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"HAProxy shows what is wanted, each name once", what_is_wanted_is_shown},
        {"a HAProxy that does not hear, does not answer, or loads anew, at each moment, shows it in the end",
         haproxy_does_not_listen},
        {"whichever allocation fails, HAProxy shows it in the end", no_memory},
        {"a certificate that HAProxy does not take holds up no other", one_that_haproxy_does_not_take},
        {"files go when nobody reads them any more", files_go_last},
        {NULL, NULL},
    };
    return tap_main("certs", tests);
}
