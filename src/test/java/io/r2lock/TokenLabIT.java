package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Four processes and three keys, processes and backends that are killed: the tokens of each key grow from hold to hold.
 *
 * <p>With {@code -Dlong} over 100,000 holds, in either scope and in both.
 */
class TokenLabIT {

    private static final Logger LOG = LoggerFactory.getLogger(TokenLabIT.class);

    private static final boolean LONG = Boolean.getBoolean("long");
    private static final int HOLDS = LONG ? 100_000 : 3_000;
    private static final int STRIKES = LONG ? 20 : 2;
    private static final int PROCESSES = 4;
    private static final int ENOUGH = 20;
    private static final Duration PATIENCE = Duration.ofSeconds(30);
    private static final String HOLDERS = """
            select a.pid from pg_stat_activity a join pg_locks l on l.pid = a.pid
            where a.application_name ~ '^r2lock tokens-[0-9]+$' and l.locktype = 'advisory' and l.granted
            order by random() limit 1""";

    private final TestServer server = TestServer.newest();
    private final Random random = new Random();
    private final List<LabChild> living = new ArrayList<>();
    private final int[] struck = new int[2];
    private Path directory = Path.of("");
    private String scope = "";
    private int started;
    private int formerBegins;

    @RegisterExtension
    final NoResidue residue = NoResidue.on(server).patience(Duration.ofSeconds(20));

    static Stream<String> scopes() {
        return LONG ? Stream.of("session", "transaction", "mixed") : Stream.of("mixed");
    }

    private LabChild start() {
        Map<String, ?> options = Map.of(
                "role",
                "tokens",
                "scope",
                scope,
                "host",
                server.host(),
                "port",
                server.port(),
                "seconds",
                1_200,
                "seed",
                random.nextLong());
        return LabChild.start(directory, "tokens-" + ++started, List.of(), options);
    }

    private int begins() {
        return formerBegins + living.stream().mapToInt(LabChild::begins).sum();
    }

    private void awaitBegins(int wanted) {
        assertThat(Await.value(this::begins, begins -> begins >= wanted, PATIENCE))
                .isGreaterThanOrEqualTo(wanted);
    }

    private void killProcess() {
        LabChild victim = living.get(random.nextInt(PROCESSES));
        long from = System.nanoTime();
        victim.kill();
        happened(LabTrouble.Kind.KILL, victim.name(), from);
        living.remove(victim);
        formerBegins += victim.begins();
        LabChild next = start();
        living.add(next);
        next.awaitReady(from);
    }

    private void killBackend() {
        List<Map<String, Object>> holders = Await.value(() -> server.query(HOLDERS), rows -> !rows.isEmpty(), PATIENCE);
        Object victim = holders.get(0).get("pid");
        long from = System.nanoTime();
        if (server.count("select pg_terminate_backend(" + victim + ", 5000)::int") == 1) {
            happened(LabTrouble.Kind.TERMINATE, String.valueOf(victim), from);
        }
    }

    private void happened(LabTrouble.Kind kind, String target, long from) {
        struck[kind == LabTrouble.Kind.KILL ? 0 : 1]++;
        try {
            Files.writeString(
                    LabHistory.log(directory, LabHistory.TROUBLES),
                    new LabTrouble(kind, target, from, System.nanoTime()).line() + "\n",
                    StandardOpenOption.CREATE,
                    StandardOpenOption.APPEND);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @ParameterizedTest
    @MethodSource("scopes")
    void tokensGrow_whateverIsKilled(String holdsIn) {
        scope = holdsIn;
        directory = LabChild.directory("tokens-" + scope);
        long start = System.nanoTime();
        try {
            for (int i = 0; i < PROCESSES; i++) {
                living.add(start());
            }
            living.forEach(process -> process.awaitReady(start));
            for (int i = 0; i < STRIKES || begins() < HOLDS; i++) {
                awaitBegins(Math.max(begins() + ENOUGH, Math.min(HOLDS, (i + 1) * HOLDS / STRIKES)));
                if (i < STRIKES) {
                    killBackend();
                    awaitBegins(begins() + ENOUGH);
                    killProcess();
                }
            }
            living.forEach(LabChild::end);
        } finally {
            living.forEach(LabChild::close);
        }
        judge(start);
    }

    private void judge(long start) {
        LabHistory history = LabHistory.read(directory);
        TokenChecker.Verdict tokens = TokenChecker.check(history, LabHistory.tokens(directory, history.holds()));
        HistoryChecker.Verdict holds = HistoryChecker.check(history);
        LOG.info(
                "{} scope, {} s: {} tokens, {} of them after another of their key, {} violations; {} processes and {} backends"
                        + " killed; {}",
                scope,
                TestClients.since(start).toSeconds(),
                tokens.tokens(),
                tokens.ordered(),
                tokens.violations().size(),
                struck[0],
                struck[1],
                holds.table());
        assertThat(tokens.violations()).isEmpty();
        assertThat(holds.violations()).isEmpty();
        assertThat(tokens.tokens()).isGreaterThan(HOLDS * 9 / 10);
        assertThat(tokens.ordered()).isGreaterThan(HOLDS * 8 / 10);
        assertThat(struck).containsOnly(STRIKES);
    }
}
