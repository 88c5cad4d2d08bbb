package io.r2lock.bench;

import io.r2dbc.postgresql.PostgresqlConnectionConfiguration;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.zonky.test.db.postgres.embedded.EmbeddedPostgres;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.LongAdder;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * Transaction scope against what a user would otherwise write: ratios in one run, rounds interleaved, the order of contenders
 * turned round every time. Absolute rates are printed beside them; on a shared machine they say little.
 *
 * <p>Arguments: {@code rounds=7 seconds=3 warm=30 callers=64 connections=10}.
 */
public final class TransactionScope {

    private final Map<String, Integer> settings = new LinkedHashMap<>();

    private TransactionScope(String... arguments) {
        settings.put("rounds", 7);
        settings.put("seconds", 3);
        settings.put("warm", 30);
        settings.put("callers", 64);
        settings.put("connections", 10);
        for (String argument : arguments) {
            String[] parts = argument.split("=", 2);
            if (parts.length != 2 || settings.replace(parts[0], Integer.valueOf(parts[1])) == null) {
                throw new IllegalArgumentException("unknown argument " + argument + "; known: " + settings);
            }
        }
    }

    /**
     * Measures and prints.
     *
     * @param arguments {@code name=value}, each with a default
     * @throws Exception where no server starts
     */
    public static void main(String[] arguments) throws Exception {
        new TransactionScope(arguments).run();
    }

    private void run() throws Exception {
        try (EmbeddedPostgres server = EmbeddedPostgres.builder()
                .setServerConfig("max_connections", "200")
                .start()) {
            System.out.printf(
                    "java %s, %d processors, PostgreSQL embedded, %s%n",
                    Runtime.version(), Runtime.getRuntime().availableProcessors(), settings);
            int port = server.getPort();
            throughput("distinct keys, loopback", port, settings.get("callers"), 1);
            for (int millis : new int[] {1, 5}) {
                try (DelayProxy proxy = new DelayProxy("127.0.0.1", port, Duration.ofNanos(millis * 500_000L))) {
                    throughput(
                            "distinct keys, +" + millis + " ms round trip", proxy.port(), settings.get("callers"), 3);
                }
            }
            latency(port);
        }
    }

    private static PostgresqlConnectionFactory factory(int port) {
        return new PostgresqlConnectionFactory(PostgresqlConnectionConfiguration.builder()
                .host("127.0.0.1")
                .port(port)
                .username("postgres")
                .database("postgres")
                .build());
    }

    private List<Contender> contenders(int port) {
        int connections = settings.get("connections");
        return List.of(
                Contender.bare(factory(port), connections),
                Contender.naive(factory(port), connections),
                Contender.r2lock(factory(port), connections));
    }

    private void throughput(String workload, int port, int callers, int warmDivisor) {
        List<Contender> contenders = contenders(port);
        Map<String, List<Double>> rates = new LinkedHashMap<>();
        for (Contender contender : contenders) {
            rates.put(contender.name(), new ArrayList<>());
            rate(contender, callers, settings.get("warm") / (double) warmDivisor);
        }
        for (int round = 0; round < settings.get("rounds"); round++) {
            List<Contender> order = new ArrayList<>(contenders);
            Collections.rotate(order, round);
            if (round % 2 == 1) {
                Collections.reverse(order);
            }
            for (Contender contender : order) {
                rates.get(contender.name()).add(rate(contender, callers, settings.get("seconds")));
            }
        }
        contenders.forEach(Contender::close);
        System.out.printf("%n%s, %d callers%n", workload, callers);
        rates.forEach((name, values) -> System.out.printf("  %-8s %s cycles/s%n", name, spread(values, "%,.0f")));
        ratio(rates, "r2lock", "bare");
        ratio(rates, "r2lock", "naive");
    }

    private static double rate(Contender contender, int callers, double seconds) {
        LongAdder cycles = new LongAdder();
        long start = System.nanoTime();
        long end = start + (long) (seconds * 1e9);
        Flux.range(0, contender.callers(callers))
                .flatMap(
                        caller -> Mono.defer(() -> contender.cycle(
                                        ThreadLocalRandom.current().nextLong(1L << 40)))
                                .doOnNext(one -> cycles.increment())
                                .repeat(() -> System.nanoTime() < end),
                        1_024)
                .blockLast();
        return cycles.sum() / ((System.nanoTime() - start) / 1e9);
    }

    private void latency(int port) {
        List<Contender> contenders = contenders(port);
        Map<String, List<Double>> medians = new LinkedHashMap<>();
        for (Contender contender : contenders) {
            medians.put(contender.name(), new ArrayList<>());
            median(contender, settings.get("warm") / 3.0);
        }
        for (int round = 0; round < settings.get("rounds"); round++) {
            List<Contender> order = new ArrayList<>(contenders);
            Collections.rotate(order, round);
            for (Contender contender : order) {
                medians.get(contender.name()).add(median(contender, settings.get("seconds") / 2.0));
            }
        }
        contenders.forEach(Contender::close);
        System.out.printf("%none caller, p50 of each round%n");
        medians.forEach((name, values) -> System.out.printf("  %-8s %s µs%n", name, spread(values, "%,.0f")));
        ratio(medians, "r2lock", "naive");
        ratio(medians, "r2lock", "bare");
    }

    private static double median(Contender contender, double seconds) {
        List<Long> samples = new ArrayList<>();
        long end = System.nanoTime() + (long) (seconds * 1e9);
        Mono.defer(() -> {
                    long start = System.nanoTime();
                    return contender
                            .cycle(ThreadLocalRandom.current().nextLong(1L << 40))
                            .doOnNext(one -> samples.add(System.nanoTime() - start));
                })
                .repeat(() -> System.nanoTime() < end)
                .blockLast();
        long[] sorted = samples.stream().mapToLong(Long::longValue).sorted().toArray();
        return sorted[sorted.length / 2] / 1e3;
    }

    /** Of each round, because the machine's speed changes between rounds more than within one. */
    private static void ratio(Map<String, List<Double>> values, String name, String other) {
        List<Double> ratios = new ArrayList<>();
        for (int i = 0; i < values.get(name).size(); i++) {
            ratios.add(values.get(name).get(i) / values.get(other).get(i));
        }
        System.out.printf("  %s / %s: %s%n", name, other, spread(ratios, "%.2f"));
    }

    private static String spread(List<Double> values, String format) {
        double[] sorted =
                values.stream().mapToDouble(Double::doubleValue).sorted().toArray();
        double middle = sorted.length % 2 == 1
                ? sorted[sorted.length / 2]
                : Arrays.stream(sorted, sorted.length / 2 - 1, sorted.length / 2 + 1)
                        .average()
                        .orElseThrow();
        return String.format(
                "median " + format + " (" + format + " to " + format + ")",
                middle,
                sorted[0],
                sorted[sorted.length - 1]);
    }
}
