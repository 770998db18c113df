/* SPDX-License-Identifier: BSD-2-Clause */
#include "sched/thread.h"

#include <stddef.h>

#include "cpu/cpu.h"
#include "cpu/percpu.h"
#include "lib/panic.h"
#include "lib/string.h"
#include "mm/frames.h"
#include "mm/layout.h"
#include "mm/paging.h"
#include "mm/stacks.h"
#include "sched/sched.h"

/* What context_switch() finds on the stack of a thread that never ran. */
struct first_frame {
    uint64_t registers[6];
    void (*begin)(void);
    uint64_t return_address; /* 0: here a backtrace ends */
    struct thread thread;    /* this is the top */
};
_Static_assert(sizeof(struct first_frame) % 16 == 0 &&
                   offsetof(struct first_frame, thread) % 16 == 0,
               "begin() is entered with the stack that the ABI asks for");

/* Also keeps the page tables below THREADS_BASE to one CPU at a time. */
static struct spinlock lock = SPINLOCK("threads");
static struct thread *free_places; /* used before, still mapped */
static unsigned places;            /* ever used */
static unsigned last_id;

static struct first_frame *frame_of(unsigned place)
{
    uint64_t top = THREADS_BASE + (place + 1) * (uint64_t)THREAD_SLOT;
    return (struct first_frame *)top - 1;
}

struct thread *thread_at(unsigned place)
{
    return place < places ? &frame_of(place)->thread : NULL;
}

/* A place for a thread, with the lock held. */
static struct thread *find_place(void)
{
    struct thread *thread = free_places;
    if (thread) {
        free_places = thread->next;
        return thread;
    }
    if (places == THREADS_MAX)
        panic("%u threads at a time are the most there can be", THREADS_MAX);
    thread = &frame_of(places)->thread;
    stack_map(THREADS_BASE + (places + 1) * (uint64_t)THREAD_SLOT, STACK_SIZE);
    places++; /* now: reports look at every place below */
    return thread;
}

struct thread *thread_current(void)
{
    return percpu_thread();
}

static void begin(void)
{
    sched_begin();
    interrupts_on();
    struct thread *me = thread_current();
    me->function(me->argument);
    thread_exit();
}

struct thread *thread_create(const char *name, void (*function)(void *),
                             void *argument)
{
    uint64_t flags = spin_lock_irq(&lock);
    struct thread *thread = find_place();
    unsigned id = ++last_id;
    spin_unlock_irq(&lock, flags);

    struct first_frame *frame =
        (void *)((char *)thread - offsetof(struct first_frame, thread));
    *frame = (struct first_frame){
        .begin = begin,
        .thread = {.rsp = (uint64_t)frame,
                   .id = id,
                   .name = name,
                   .ended = WAIT_QUEUE("end of a thread"),
                   .function = function,
                   .argument = argument},
    };
    flags = interrupts_save();
    sched_start(thread);
    interrupts_restore(flags);
    return thread;
}

void thread_exit(void)
{
    struct thread *me = thread_current();
    spin_lock_irq(&me->ended.lock); /* sched_end() gives it back */
    wait_wake_all(&me->ended);
    sched_end(&me->ended.lock);
}

void thread_join(struct thread *thread)
{
    struct thread *me = thread_current();
    uint64_t flags = spin_lock_irq(&thread->ended.lock);
    if (thread->state == THREAD_FREE || thread == me)
        panic("thread %u \"%s\" joins thread %u \"%s\", which %s", me->id,
              me->name, thread->id, thread->name,
              thread == me ? "is itself" : "was joined before");
    me->joins = thread;
    while (thread->state != THREAD_ENDED)
        wait_sleep(&thread->ended);
    me->joins = NULL;
    thread->state = THREAD_FREE;
    spin_unlock_irq(&thread->ended.lock, flags);

    flags = spin_lock_irq(&lock);
    thread->next = free_places;
    free_places = thread;
    spin_unlock_irq(&lock, flags);
}

void thread_yield(void)
{
    uint64_t flags = interrupts_save();
    sched_yield();
    interrupts_restore(flags);
}

void thread_sleep(uint64_t us)
{
    uint64_t flags = interrupts_save();
    sched_sleep(us);
    interrupts_restore(flags);
}
