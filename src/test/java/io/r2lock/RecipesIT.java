package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.Connection;
import io.r2dbc.spi.Result;
import io.r2dbc.spi.Statement;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** The recipes of the README: each is a region of a test that shows that it does what is said of it. */
class RecipesIT {

    private static final Path RECIPES = Path.of("src/test/resources/recipes");
    private static final long REPORT = -4356550688942722626L;
    private static final long GREETING = 4542399437653695482L;

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private DefaultAdvisoryLocks locks;
    private DefaultAdvisoryLocks elsewhere;

    @BeforeEach
    void open() {
        locks = clients.open(server);
        elsewhere = clients.open(server);
    }

    @AfterEach
    void close() {
        sessions.close();
    }

    // region webhook
    Mono<String> deliver(AdvisoryLocks locks, String id, Mono<Void> process) {
        return locks.exclusive(LockKey.named("webhook", id))
                .guard(hold -> isFirst(hold.connection(), id)
                        .flatMap(first -> first ? process.thenReturn("processed") : Mono.just("already processed")));
    }

    /** The row is committed with the lock's transaction, or not at all. */
    Mono<Boolean> isFirst(Connection connection, String id) {
        Statement insert = connection.createStatement("INSERT INTO delivery (id) VALUES ($1) ON CONFLICT DO NOTHING");
        return Flux.from(insert.bind("$1", id).execute())
                .flatMap(Result::getRowsUpdated)
                .single()
                .map(inserted -> inserted == 1);
    }
    // endregion

    @Test
    void webhook_isProcessedOnce_alsoAfterAFailure() {
        server.execute("drop table if exists delivery", "create table delivery (id text primary key)");
        AtomicInteger effects = new AtomicInteger();
        assertThat(deliver(locks, "7", Mono.error(new IllegalStateException("planted")))
                        .onErrorReturn("failed")
                        .block(PATIENCE))
                .isEqualTo("failed");
        assertThat(server.count("select count(*) from delivery")).isZero();
        List<String> answers = Flux.range(0, 40)
                .flatMap(
                        i -> deliver(
                                i % 2 == 0 ? locks : elsewhere,
                                "7",
                                Mono.delay(Duration.ofMillis(5))
                                        .doOnNext(done -> effects.incrementAndGet())
                                        .then()),
                        40)
                .collectList()
                .block(PATIENCE);
        assertThat(answers).hasSize(40).containsOnlyOnce("processed");
        assertThat(effects).hasValue(1);
        server.execute("drop table delivery");
    }

    private Mono<Integer> call(AdvisoryLocks locks, Mono<Integer> request) {
        // region rate
        Mono<Integer> limited =
                locks.permit(LockKey.named("provider", "payments"), 4).guard(request);
        // endregion
        return limited;
    }

    @Test
    void permits_boundWhatRunsOnAllInstancesTogether() {
        AtomicInteger running = new AtomicInteger();
        List<Integer> seen = Collections.synchronizedList(new ArrayList<>());
        Mono<Integer> request = Mono.defer(() -> {
            seen.add(running.incrementAndGet());
            return Mono.delay(Duration.ofMillis(5)).map(done -> running.decrementAndGet());
        });
        Flux.range(0, 60)
                .flatMap(i -> call(i % 2 == 0 ? locks : elsewhere, request), 60)
                .blockLast(PATIENCE);
        assertThat(seen).hasSize(60).allMatch(count -> count <= 4).contains(4);
    }

    @Test
    void permitsThatAreHeldAtLeast_boundHowManyBegin() {
        List<Long> begun = Collections.synchronizedList(new ArrayList<>());
        LockRequest request =
                locks.permit(LockKey.named("provider", "mails"), 4).holdAtLeast(Duration.ofMillis(300));
        Flux.range(0, 10)
                .flatMap(i -> request.guard(Mono.fromRunnable(() -> begun.add(System.nanoTime()))), 10)
                .blockLast(PATIENCE);
        assertThat(begun).hasSize(10);
        for (int i = 4; i < begun.size(); i++) {
            // from the grant, which comes a moment before the work
            assertThat(begun.get(i) - begun.get(i - 4))
                    .isGreaterThan(Duration.ofMillis(250).toNanos());
        }
        Await.until("the last ones are given back", () -> locks.live() == 0);
    }

    private Mono<Void> cleanUp(AdvisoryLocks locks, Mono<Long> deleteUpTo1000) {
        // region batches
        Mono<Void> cleanUp = locks.withAdvisoryLock(LockKey.named("clean-up", "sessions"), deleteUpTo1000)
                .repeat()
                .takeUntil(deleted -> deleted < 1_000)
                .then();
        // endregion
        return cleanUp;
    }

    @Test
    void longJob_inShortHolds_letsOthersInBetween() {
        AtomicInteger left = new AtomicInteger(20);
        AtomicInteger batches = new AtomicInteger();
        Mono<Long> batch = Mono.delay(Duration.ofMillis(20)).map(done -> {
            batches.incrementAndGet();
            return left.decrementAndGet() > 0 ? 1_000L : 7L;
        });
        Mono<Integer> other =
                elsewhere.withAdvisoryLock(LockKey.named("clean-up", "sessions"), Mono.fromCallable(left::get));
        Mono<Integer> between = Mono.defer(() -> other)
                .delaySubscription(Flux.interval(Duration.ofMillis(1)).filter(tick -> batches.get() > 0));
        AtomicInteger leftThen = new AtomicInteger();
        Mono.when(cleanUp(locks, batch), between.doOnNext(leftThen::set)).block(PATIENCE);
        assertThat(leftThen).hasPositiveValue();
        assertThat(batches).hasValue(20);
    }

    @Test
    void pythonJob_andThisClient_excludeEachOther() throws Exception {
        List<String> printed = python("nightly", "nightly-report", "", "Grüße, 世界");
        // golden: md5sum of the name, the first 16 hexadecimal digits as a signed number
        assertThat(printed)
                .containsExactly(
                        "SELECT pg_advisory_xact_lock(784550578118357280)",
                        "SELECT pg_advisory_xact_lock(" + REPORT + ")",
                        "SELECT pg_advisory_xact_lock(-3162216497309240828)",
                        "SELECT pg_advisory_xact_lock(" + GREETING + ")");
        assertThat(LockKey.md5("Grüße, 世界")).isEqualTo(LockKey.of(GREETING));
        PostgresqlConnection job = sessions.open();
        Sessions.run(job, "BEGIN");
        Sessions.run(job, printed.get(1));
        assertIsBusy(LockKey.md5("nightly-report"), job);
    }

    @Test
    void sqlJob_andThisClient_excludeEachOther() throws IOException {
        PostgresqlConnection job = sessions.open();
        Sessions.run(job, Files.readString(RECIPES.resolve("nightly_report.sql")));
        assertIsBusy(LockKey.hashtextExtended("nightly-report", 0), job);
    }

    private void assertIsBusy(LockKey key, PostgresqlConnection job) {
        Mono<String> run = locks.exclusive(key).skipIfBusy().guard(Mono.just("ran"));
        assertThat(run.block(PATIENCE)).isNull();
        Sessions.run(job, "COMMIT");
        assertThat(run.block(PATIENCE)).isEqualTo("ran");
    }

    private static List<String> python(String... names) throws Exception {
        List<String> command = new ArrayList<>(List.of(
                "python3", "-X", "utf8", RECIPES.resolve("nightly_report.py").toString()));
        command.addAll(List.of(names));
        Process process;
        try {
            process = new ProcessBuilder(command).redirectErrorStream(true).start();
        } catch (IOException e) {
            return Assumptions.abort("skipped, it needs `python3`: " + e.getMessage());
        }
        String output = new String(process.getInputStream().readAllBytes(), UTF_8);
        assertThat(process.waitFor(10, TimeUnit.SECONDS)).isTrue();
        assertThat(process.exitValue()).as(output).isZero();
        return output.lines().toList();
    }
}
