/*
 * Looking names up: one question for all who ask, few threads, answers kept for a moment. getaddrinfo() is this file's
 * own: names that begin with "silent" get no answer until the test lets go.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "io/io_priv.h"
#include "support/tap.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

static struct io_loop *loop;
#define TEST_LOOP loop
#include "support/turns.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned asked, inside;
static bool released;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    (void)service, (void)hints;
    pthread_mutex_lock(&lock);
    asked++;
    inside++;
    while (strncmp(node, "silent", 6) == 0 && !released)
        pthread_cond_wait(&changed, &lock);
    inside--;
    pthread_mutex_unlock(&lock);
    if (strncmp(node, "no", 2) == 0)
        return EAI_NONAME;
    struct addrinfo *a = calloc(1, sizeof *a + sizeof(struct sockaddr_in));
    struct sockaddr_in *to = (struct sockaddr_in *)(a + 1);
    if (!a)
        return EAI_MEMORY;
    *to = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    *a = (struct addrinfo){.ai_family = AF_INET, .ai_addrlen = sizeof *to, .ai_addr = (struct sockaddr *)to};
    *out = a;
    return 0;
}

void freeaddrinfo(struct addrinfo *a) { free(a); }

static unsigned count(const unsigned *of) {
    pthread_mutex_lock(&lock);
    unsigned n = *of;
    pthread_mutex_unlock(&lock);
    return n;
}

static void release(bool yes) {
    pthread_mutex_lock(&lock);
    released = yes;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static unsigned threads(void) {
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/task");
    CU_ASSERT_PTR_NOT_NULL_FATAL(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n - 2; /* . and .. */
}

/* ---- those who ask ---- */

#define MANY 2000

static struct asker {
    struct io_lookup_wait w;
    unsigned told;
    struct io_resolved r;
} askers[MANY];

static void told(struct io_lookup_wait *w, const struct io_resolved *r) {
    struct asker *a = ht_container_of(w, struct asker, w);
    a->told++;
    a->r = *r;
}

static int ask(unsigned i, const char *host) {
    askers[i] = (struct asker){.w.done = told};
    return io_lookup(loop, host, &askers[i].w, &askers[i].r);
}

static void begin(void) {
    released = false;
    asked = 0;
    loop = io_loop_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(loop);
}

static void end(void) {
    release(true);
    io_loop_destroy(&loop);
    for (uint64_t stop = ht_now_ms() + PATIENCE_MS; count(&inside) > 0 && ht_now_ms() < stop;)
        sched_yield();
    CU_ASSERT_EQUAL(count(&inside), 0);
}

static void one_question_for_all(void) {
    begin();
    for (unsigned i = 0; i < MANY; i++)
        CU_ASSERT_EQUAL_FATAL(ask(i, "silent.example"), HT_EAGAIN);
    UNTIL(count(&inside) == 1);
    for (unsigned i = 0; i < MANY; i += 2)
        io_lookup_cancel(&askers[i].w);
    CU_ASSERT_EQUAL(count(&asked), 1);
    release(true);
    UNTIL(askers[MANY - 1].told);
    for (unsigned i = 0; i < MANY; i++)
        CU_ASSERT_EQUAL(askers[i].told, i % 2);
    CU_ASSERT_EQUAL(askers[1].r.n, 1);
    /* and for those who come a moment later */
    CU_ASSERT_EQUAL(ask(0, "silent.example"), HT_OK);
    CU_ASSERT_EQUAL(askers[0].r.n, 1);
    CU_ASSERT_EQUAL(count(&asked), 1);
    end();
}

static void failures_are_told_and_remembered(void) {
    begin();
    CU_ASSERT_EQUAL(ask(0, "nobody.example"), HT_EAGAIN);
    UNTIL(askers[0].told);
    CU_ASSERT_EQUAL(askers[0].r.gai, EAI_NONAME);
    CU_ASSERT_EQUAL(ask(1, "nobody.example"), HT_OK);
    CU_ASSERT_EQUAL(askers[1].r.gai, EAI_NONAME);
    end();
}

/* A silent name server, and visitors that come and go: thousands of questions, a few threads. */
static void threads_are_bounded(void) {
    begin();
    unsigned before = threads();
    for (unsigned i = 0; i < MANY; i++) {
        char name[64];
        snprintf(name, sizeof name, "silent-%u.example", i % 100);
        int rc = ask(i, name);
        CU_ASSERT_FATAL(rc == HT_EAGAIN);
        if (i % 100 == 99) { /* all of them leave */
            UNTIL(count(&inside) >= IO_RESOLVERS);
            for (unsigned k = i - 99; k <= i; k++)
                io_lookup_cancel(&askers[k].w);
        }
        CU_ASSERT_FATAL(threads() <= before + IO_RESOLVER_THREADS);
    }
    CU_ASSERT(count(&inside) <= IO_RESOLVER_THREADS);
    end();
}

/* Questions that nobody waits for any more cannot be stopped, and hold no place. */
static void who_left_holds_no_place(void) {
    begin();
    for (unsigned i = 0; i < IO_RESOLVERS; i++) {
        char name[64];
        snprintf(name, sizeof name, "silent-%u.example", i);
        CU_ASSERT_EQUAL(ask(i, name), HT_EAGAIN);
    }
    CU_ASSERT_EQUAL(ask(10, "waits.example"), HT_EAGAIN);
    CU_ASSERT_EQUAL(ask(11, "silent-0.example"), HT_EAGAIN);
    UNTIL(count(&inside) == IO_RESOLVERS);
    CU_ASSERT_EQUAL(askers[10].told, 0);
    io_lookup_cancel(&askers[0].w); /* somebody else still waits for that one */
    CU_ASSERT_EQUAL(count(&asked), IO_RESOLVERS);
    io_lookup_cancel(&askers[1].w);
    UNTIL(askers[10].told);
    CU_ASSERT_EQUAL(askers[10].r.n, 1);
    /* who asks again finds the question still under way */
    unsigned before = count(&asked);
    CU_ASSERT_EQUAL(ask(1, "silent-1.example"), HT_EAGAIN);
    CU_ASSERT_EQUAL(count(&asked), before);
    release(true);
    UNTIL(askers[1].told && askers[11].told && askers[2].told && askers[3].told);
    end();
}

/* A callback that asks again and cancels others. */
static struct asker again;
static void meddles(struct io_lookup_wait *w, const struct io_resolved *r) {
    told(w, r);
    io_lookup_cancel(&askers[1].w);
    again = (struct asker){.w.done = told};
    CU_ASSERT_EQUAL(io_lookup(loop, "silent.example", &again.w, &again.r), HT_OK);
}

static void callbacks_may_meddle(void) {
    begin();
    CU_ASSERT_EQUAL(ask(0, "silent.example"), HT_EAGAIN);
    askers[0].w.done = meddles;
    CU_ASSERT_EQUAL(ask(1, "silent.example"), HT_EAGAIN);
    CU_ASSERT_EQUAL(ask(2, "silent.example"), HT_EAGAIN);
    release(true);
    UNTIL(askers[2].told);
    CU_ASSERT_EQUAL(askers[1].told, 0);
    CU_ASSERT_EQUAL(again.r.n, 1);
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"simultaneous look-ups of a name share one question", one_question_for_all},
        {"failed look-ups are reported and remembered", failures_are_told_and_remembered},
        {"the number of threads has a limit", threads_are_bounded},
        {"a cancelled look-up makes room for another", who_left_holds_no_place},
        {"callbacks may start and cancel look-ups", callbacks_may_meddle},
        {NULL, NULL},
    };
    int rc = tap_main("io resolve", tests);
    if (ht_mem_live() != 0) {
        printf("Bail out! %zu blocks left\n", ht_mem_live());
        return 1;
    }
    return rc;
}
