package io.r2lock.bench;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2lock.AdvisoryLocks;
import io.r2lock.LockKey;
import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.function.LongUnaryOperator;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * A stream of a million items over 10,000 keys through {@code flatMapLocked}, in session scope: order, memory, and time, the latter
 * against bare {@code guard} calls for as many distinct keys and with as many at once, in rounds that alternate.
 *
 * <p>Arguments: {@code items=1000000 keys=10000 concurrency=256 rounds=7 round=300000 handOffs=64}; {@code smoke} as the first one makes all small.
 */
public final class Streams {

    /** The most that the heap may have grown from a fifth of the items to the last. */
    private static final double HEAP_MEGABYTES = 10;

    private static final Duration PATIENCE = Duration.ofMinutes(10);

    private final StreamSettings settings;
    private final AdvisoryLocks locks;
    private final Table table = new Table();

    private Streams(StreamSettings settings, PostgresqlConnectionFactory factory) {
        this.settings = settings;
        this.locks = AdvisoryLocks.builder(factory)
                .sessionConnections(1)
                .handOffLimit(settings.handOffs())
                .build();
    }

    /**
     * Measures and prints.
     *
     * @param arguments {@code name=value}, each with a default
     * @throws Exception where no server starts
     */
    public static void main(String[] arguments) throws Exception {
        StreamSettings settings = new StreamSettings(arguments);
        try (Server server = new Server()) {
            System.out.printf(
                    "java %s, %d processors, %d MB heap, PostgreSQL %s%n%s%n",
                    Runtime.version(),
                    Runtime.getRuntime().availableProcessors(),
                    Runtime.getRuntime().maxMemory() >> 20,
                    server.version(),
                    settings);
            Streams streams = new Streams(settings, Server.factory(server.port()));
            streams.run();
            streams.table.print();
            streams.locks.close().block(Duration.ofSeconds(20));
        }
        if (settings.smoke()) {
            System.out.println("smoke: everything ran; the numbers mean nothing");
        }
    }

    private void run() {
        // warm
        bare(settings.round());
        stream(settings.round(), item -> spread(item, settings.keys()), item -> {});
        memory();
        rounds();
    }

    /** Keys of neighbours have nothing to do with each other. */
    private static long spread(long item, long keys) {
        return Long.remainderUnsigned(item * 0x9E3779B97F4A7C15L >>> 20, keys);
    }

    private void memory() {
        long fifth = settings.items() / 5;
        List<Double> used = new ArrayList<>();
        double seconds = stream(settings.items(), item -> spread(item, settings.keys()), taken -> {
            if (taken == fifth || taken == settings.items()) {
                used.add(usedMegabytes());
            }
        });
        System.out.printf(
                "%,d items over %,d keys, concurrency %d: %.1f s, %,.0f items/s, order kept; heap %.1f MB at item %,d, %.1f MB at the end%n",
                settings.items(),
                settings.keys(),
                settings.concurrency(),
                seconds,
                settings.items() / seconds,
                used.get(0),
                fifth,
                used.get(1));
        table.atMost("growth of the heap, in MB", List.of(used.get(1) - used.get(0)), HEAP_MEGABYTES);
    }

    private void rounds() {
        List<Double> againstBare = new ArrayList<>();
        List<Double> slowed = new ArrayList<>();
        List<Double> againstAlone = new ArrayList<>();
        int items = settings.round();
        for (int i = 0; i < settings.rounds(); i++) {
            double bare = bare(items);
            double keyed = stream(items, item -> spread(item, settings.keys()), item -> {});
            double distinct = stream(items, item -> 1 + item, item -> {});
            double withHot = stream(items, item -> item % 2 == 0 ? 0 : 1 + item, item -> {});
            double alone = stream(items / 2, item -> 1 + item, item -> {});
            againstBare.add(keyed / bare);
            slowed.add(withHot / distinct);
            againstAlone.add(withHot / alone);
            System.out.printf(
                    "round %d, items/s: bare %,.0f; keyed %,.0f; a key each %,.0f; every second one of one key %,.0f%n",
                    i + 1, items / bare, items / keyed, items / distinct, items / withHot);
        }
        table.atMost("time of flatMapLocked / of bare guard calls", againstBare, 1.5);
        table.atMost("time of a stream, half of it one key / a key each", slowed, 2);
        table.told("time of a stream, half of it one key / the other half alone", againstAlone);
    }

    /** Seconds for one guard call an item, over distinct keys. */
    private double bare(int items) {
        long start = System.nanoTime();
        Flux.range(0, items)
                .flatMap(
                        item -> locks.exclusive(LockKey.of(item)).inSession().guard(Mono.just(item)),
                        settings.concurrency())
                .blockLast(PATIENCE);
        return (System.nanoTime() - start) / 1e9;
    }

    /** Told how many were taken. */
    private interface Progress {
        void taken(long count);
    }

    /** Seconds for the stream; fails where an item comes before an earlier one of its key. */
    private double stream(int items, LongUnaryOperator keyOf, Progress progress) {
        int[] last = new int[Math.max(settings.keys(), items) + 2];
        long[] taken = new long[1];
        long start = System.nanoTime();
        locks.flatMapLocked(
                        Flux.range(1, items),
                        item -> locks.exclusive(LockKey.of(keyOf.applyAsLong(item)))
                                .inSession(),
                        Mono::just,
                        settings.concurrency())
                .doOnNext(item -> {
                    int key = (int) keyOf.applyAsLong(item);
                    if (item <= last[key]) {
                        throw new IllegalStateException("item " + item + " after " + last[key] + " of key " + key);
                    }
                    last[key] = item;
                    progress.taken(++taken[0]);
                })
                .blockLast(PATIENCE);
        if (taken[0] != items) {
            throw new IllegalStateException(taken[0] + " of " + items + " items");
        }
        return (System.nanoTime() - start) / 1e9;
    }

    private static double usedMegabytes() {
        System.gc();
        System.gc();
        return ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed() / 1e6;
    }
}
