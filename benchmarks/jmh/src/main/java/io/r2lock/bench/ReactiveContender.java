package io.r2lock.bench;

import io.r2dbc.pool.ConnectionPool;
import io.r2dbc.pool.ConnectionPoolConfiguration;
import io.r2dbc.spi.Connection;
import io.r2dbc.spi.ConnectionFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.LongSupplier;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** A contender whose cycle is a publisher: all callers are subscribed to by one thread. */
abstract class ReactiveContender implements Contender {

    /** Beyond the end of a measurement; a contender that loses a caller would hang for ever. */
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    private final String name;

    ReactiveContender(String name) {
        this.name = name;
    }

    abstract Mono<Integer> cycle(long key);

    @Override
    public final String name() {
        return name;
    }

    @Override
    public final double rate(int callers, double seconds, LongSupplier keys) {
        LongAdder cycles = new LongAdder();
        long start = System.nanoTime();
        long end = start + (long) (seconds * 1e9);
        Flux.range(0, callers(callers))
                .flatMap(
                        caller -> Mono.defer(() -> cycle(keys.getAsLong()))
                                .doOnNext(one -> cycles.increment())
                                .repeat(() -> System.nanoTime() < end)
                                .then(),
                        callers)
                .blockLast(patience(seconds));
        return cycles.sum() / ((System.nanoTime() - start) / 1e9);
    }

    @Override
    public final double median(double seconds, LongSupplier keys) {
        List<Long> samples = new ArrayList<>();
        long end = System.nanoTime() + (long) (seconds * 1e9);
        Mono.defer(() -> {
                    long start = System.nanoTime();
                    return cycle(keys.getAsLong()).doOnNext(one -> samples.add(System.nanoTime() - start));
                })
                .repeat(() -> System.nanoTime() < end)
                .blockLast(patience(seconds));
        return Spread.median(samples) / 1e3;
    }

    private static Duration patience(double seconds) {
        return PATIENCE.plusMillis((long) (seconds * 1e3));
    }

    static ConnectionPool pool(ConnectionFactory factory, int connections) {
        return new ConnectionPool(ConnectionPoolConfiguration.builder(factory)
                .initialSize(connections)
                .maxSize(connections)
                .build());
    }

    /** Runs one of the functions that take a key, and reads its answer. */
    static Mono<Void> call(Connection connection, String sql, long key) {
        return Flux.from(connection.createStatement(sql).bind(0, key).execute())
                .flatMap(result -> result.map((row, metadata) -> 1))
                .then();
    }
}
