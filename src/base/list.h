/*
 * Doubly linked lists whose nodes are members of the listed structures. Lists and nodes need ht_list_init(). A node
 * that is in no list points at itself, so it is harmless to remove it twice.
 */
#ifndef HT_BASE_LIST_H
#define HT_BASE_LIST_H

#include "base/base.h"

struct ht_list {
    struct ht_list *prev, *next;
};

static inline void ht_list_init(struct ht_list *l) { l->prev = l->next = l; }

static inline bool ht_list_empty(const struct ht_list *l) { return l->next == l; }

/* True while the node is in a list. */
static inline bool ht_list_linked(const struct ht_list *n) { return n->next != n; }

static inline void ht_list_remove(struct ht_list *n) {
    n->prev->next = n->next;
    n->next->prev = n->prev;
    ht_list_init(n);
}

static inline void ht_list_insert_before(struct ht_list *pos, struct ht_list *n) {
    n->prev = pos->prev;
    n->next = pos;
    pos->prev->next = n;
    pos->prev = n;
}

static inline void ht_list_push_back(struct ht_list *head, struct ht_list *n) { ht_list_insert_before(head, n); }
static inline void ht_list_push_front(struct ht_list *head, struct ht_list *n) { ht_list_insert_before(head->next, n); }

/* Removes and returns the first node; NULL when the list is empty. */
static inline struct ht_list *ht_list_pop_front(struct ht_list *head) {
    struct ht_list *n = head->next;
    if (n == head)
        return NULL;
    ht_list_remove(n);
    return n;
}

/* Moves all nodes of `from` to the end of `to`. */
static inline void ht_list_splice(struct ht_list *to, struct ht_list *from) {
    if (ht_list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    ht_list_init(from);
}

#define HT_LIST_ENTRY(node, type, member) ht_container_of(node, type, member)
#define HT_LIST_FOR(it, head) for (struct ht_list *it = (head)->next; it != (head); it = it->next)
/* The body may remove `it`, and no other node. */
#define HT_LIST_FOR_SAFE(it, head)                                                                                     \
    for (struct ht_list *it = (head)->next, *it##_next = it->next; it != (head); it = it##_next, it##_next = it->next)

#endif
