/* Eight threads race for the first use of the library: one supervisor is started, and every run is right. */
#include "check.h"

#include <pthread.h>

enum { THREADS = 8 };

static pthread_barrier_t start;

static void *work(void *unused)
{
    (void)unused;
    pthread_barrier_wait(&start);
    check_says("echo first", "first\n");
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    int i, pid = 0;
    CHECK(pthread_barrier_init(&start, NULL, THREADS) == 0);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, NULL) == 0);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(supervisors(&pid) == 1);
    pthread_barrier_destroy(&start);
    return 0;
}
