/*
 * sim [--steps N] [--seed S] [--large] [--verbose]
 *
 * Without --seed: the regression list, then a row of seeds, N steps in all; the first seeds run
 * twice and must leave the same bytes.
 */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Seeds that once failed, with the number of steps that reach the place. */
static const struct {
    uint64_t seed, steps;
    bool large;
} regression[] = {
    {4, 8100, false}, /* the simulator itself: a limit was raised before it was sent */
};

static struct sim world; /* too large for a stack */

static uint64_t
run(uint64_t seed, uint64_t steps, bool large, bool verbose, struct sim_counts *ret_sum)
{
    sim_run(&world, seed, steps, large, verbose);
    const struct sim_counts *c = &world.counts;
    ret_sum->steps += c->steps;
    ret_sum->checks += c->checks;
    ret_sum->accepted += c->accepted;
    ret_sum->refused += c->refused;
    ret_sum->starts += c->starts;
    ret_sum->ended += c->ended;
    ret_sum->crashes += c->crashes;
    ret_sum->adopted += c->adopted;
    ret_sum->restarts += c->restarts - c->episodes;
    for (uint32_t i = 0; i < 8; i++)
        ret_sum->outcome[i] += c->outcome[i];
    return world.hash;
}

static void
twice(uint64_t seed, uint64_t steps, bool large, struct sim_counts *sum)
{
    uint64_t first = run(seed, steps, large, false, sum);
    uint64_t second = run(seed, steps, large, false, sum);
    if (first != second) {
        fprintf(stderr, "sim: seed %llu is not deterministic: %016llx, then %016llx\n",
                (unsigned long long)seed, (unsigned long long)first, (unsigned long long)second);
        exit(1);
    }
}

static void
report(const struct sim_counts *sum)
{
    printf("sim: %llu steps, %llu checked whole, %llu accepted, %llu refused, %llu starts, "
           "%llu worker crashes, %llu supervisor crashes, %llu adopted while running\n",
           (unsigned long long)sum->steps, (unsigned long long)sum->checks,
           (unsigned long long)sum->accepted, (unsigned long long)sum->refused,
           (unsigned long long)sum->starts, (unsigned long long)sum->crashes,
           (unsigned long long)sum->restarts, (unsigned long long)sum->adopted);
    printf("sim: ended %llu:", (unsigned long long)sum->ended);
    for (uint32_t o = 1; o < 8; o++)
        printf(" %s %llu", pl_core_outcome_text(o), (unsigned long long)sum->outcome[o]);
    putchar('\n');
}

int
main(int argc, char **argv)
{
    uint64_t steps = 1100000, seed = 0;
    bool large = false, verbose = false, seeded = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc)
            steps = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 0), seeded = true;
        else if (strcmp(argv[i], "--large") == 0)
            large = true;
        else if (strcmp(argv[i], "--verbose") == 0)
            verbose = true;
        else
            return fprintf(stderr, "usage: sim [--steps N] [--seed S] [--large] [--verbose]\n"), 2;
    }
    struct sim_counts sum = {0};
    if (seeded) {
        uint64_t hash = run(seed, steps, large, verbose, &sum);
        printf("sim: seed %llu hash %016llx\n", (unsigned long long)seed, (unsigned long long)hash);
        report(&sum);
        return 0;
    }
    for (uint32_t i = 0; i < PL_ARRAY_LEN(regression); i++)
        run(regression[i].seed, regression[i].steps, regression[i].large, false, &sum);
    for (uint64_t s = 100; s < 104; s++)
        twice(s, 10000, s % 2, &sum);
    for (uint64_t s = 1000; sum.steps < steps; s++)
        run(s, steps / 20 + 1, s % 8 == 7, false, &sum);
    report(&sum);
    if (sum.crashes == 0 || sum.restarts == 0 || sum.refused == 0 || sum.adopted == 0)
        return fprintf(stderr, "sim: no faults were met: the simulation proves nothing\n"), 1;
    return 0;
}
