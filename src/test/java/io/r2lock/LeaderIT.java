package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Processes that all want to lead: whatever happens to the leader, soon there is another one, and never two outside the windows that
 * {@link HistoryChecker} states. More of everything with {@code -Dlong}.
 */
class LeaderIT {

    private static final Logger FIGURES = LoggerFactory.getLogger(LeaderIT.class);

    private static final boolean LONG = Boolean.getBoolean("long");
    private static final int KILLS = LONG ? 50 : 3;
    private static final int OTHERS = LONG ? 50 : 5;
    private static final Duration PATIENCE = Duration.ofSeconds(30);
    private static final Duration SOON = Duration.ofSeconds(5);

    /** Heartbeat and deadline, of which {@link LeadingProcess} has a quick kind. */
    private static final Duration SILENCE = Duration.ofSeconds(LONG ? 5 : 2);

    private static final Duration SCHEDULING = Duration.ofSeconds(1);

    private static final String CANDIDATES = "select count(*) from pg_locks where locktype = 'advisory' and objid = "
            + LeadingProcess.KEY + " and not granted";

    private final Path directory = LabChild.directory("leader");
    private final List<LabChild> all = new ArrayList<>();
    private final List<LabChild> living = new ArrayList<>();

    @RegisterExtension
    final NoResidue residue = NoResidue.on().patience(Duration.ofSeconds(20));

    @AfterEach
    void end() {
        all.forEach(LabChild::close);
    }

    private LabChild start(TestServer server, List<String> inside, String host) {
        Map<String, ?> options = Map.of(
                "role", "leads", "quick", !LONG, "host", host, "port", server.port(), "seconds", LONG ? 900 : 300);
        LabChild child = LabChild.start(directory, "leads-" + (all.size() + 1), inside, options);
        all.add(child);
        living.add(child);
        return child;
    }

    private record Leader(LabChild process, LabHold term) {}

    private Optional<Leader> leader(long since) {
        for (LabChild process : living) {
            for (LabHold term : process.holds()) {
                if (term.begin() > since && !term.hasEnd()) {
                    return Optional.of(new Leader(process, term));
                }
            }
        }
        return Optional.empty();
    }

    private Leader awaitLeader(long since) {
        return Await.value(() -> leader(since), Optional::isPresent, PATIENCE)
                .orElseThrow(
                        () -> new AssertionError("no leader within " + PATIENCE + ", see the logs in " + directory));
    }

    /** The term of the one that is not leader any more, with its end. */
    private static LabHold ended(Leader old) {
        return Await.value(
                () -> old.process.holds().stream()
                        .filter(term -> term.id().equals(old.term.id()))
                        .findFirst()
                        .orElseThrow(),
                term -> term.hasEnd() && term.outcome() != LabHold.Outcome.NONE,
                PATIENCE);
    }

    private static void awaitCandidates(TestServer server, int count) {
        long found = Await.value(() -> server.count(CANDIDATES), now -> now == count, PATIENCE);
        assertThat(found).as("candidates that wait").isEqualTo(count);
    }

    private void happened(LabTrouble.Kind kind, String target, long from) {
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

    @Test
    void killed_terminated_resigned_done_soonThereIsAnother_andNeverTwo() {
        TestServer server = TestServer.newest();
        residue.watch(server);
        long start = System.nanoTime();
        for (int i = 0; i < 3; i++) {
            start(server, List.of(), server.host());
        }
        all.forEach(process -> process.awaitReady(start));
        kill(server);
        terminate(server);
        resign(server);
        complete(server);
        List<LabChild> ended = List.copyOf(living);
        living.forEach(LabChild::end);
        assertHistory(ended);
    }

    private void kill(TestServer server) {
        List<Long> micros = new ArrayList<>();
        for (int i = 0; i < KILLS; i++) {
            awaitCandidates(server, 2);
            Leader old = awaitLeader(0);
            living.remove(old.process);
            long kill = System.nanoTime();
            old.process.kill();
            happened(LabTrouble.Kind.KILL, old.process.name(), kill);
            micros.add((awaitLeader(kill).term.begin() - kill) / 1_000);
            long before = System.nanoTime();
            start(server, List.of(), server.host()).awaitReady(before);
        }
        tell("leader killed: the next one's work began", micros, Duration.ofMillis(100));
    }

    private void terminate(TestServer server) {
        List<Long> cancelled = new ArrayList<>();
        List<Long> begun = new ArrayList<>();
        for (int i = 0; i < OTHERS; i++) {
            awaitCandidates(server, 2);
            Leader old = awaitLeader(0);
            int backend = old.term.backend();
            long from = System.nanoTime();
            assertThat(server.count("select pg_terminate_backend(" + backend + ", 5000)::int"))
                    .isOne();
            happened(LabTrouble.Kind.TERMINATE, Integer.toString(backend), from);
            cancelled.add((ended(old).end() - from) / 1_000);
            begun.add((awaitLeader(from).term.begin() - from) / 1_000);
        }
        tell("leader's backend terminated: its work was cancelled", cancelled, Duration.ofMillis(200));
        tell("leader's backend terminated: the next one's work began", begun, SOON);
    }

    private void resign(TestServer server) {
        List<Long> micros = new ArrayList<>();
        for (int i = 0; i < OTHERS; i++) {
            awaitCandidates(server, 2);
            Leader old = awaitLeader(0);
            old.process.command("resign");
            LabHold over = ended(old);
            Leader next = awaitLeader(over.begin());
            assertThat(next.process).isNotEqualTo(old.process);
            assertThat(next.term.begin()).as("no overlap").isGreaterThan(over.end());
            assertThat(over.outcome()).isEqualTo(LabHold.Outcome.ENDED);
            micros.add((next.term.begin() - over.end()) / 1_000);
        }
        tell(
                "leader resigned: from the end of its work to the beginning of the next one's",
                micros,
                Duration.ofMillis(20));
    }

    private void complete(TestServer server) {
        awaitCandidates(server, 2);
        Leader old = awaitLeader(0);
        old.process.command("complete");
        LabHold over = ended(old);
        assertThat(awaitLeader(over.begin()).term.begin()).isGreaterThan(over.end());
        Await.rest(Duration.ofMillis(2 * Candidate.PAUSE_MILLIS));
        assertThat(server.count(CANDIDATES))
                .as("whose work is done, campaigns no more")
                .isOne();
    }

    /** {@code goal}: of the 99th percentile; asserted in the long form only, whose machine has nothing else to do. */
    private static void tell(String what, List<Long> micros, Duration goal) {
        micros.sort(null);
        long high = micros.get((int) Math.ceil(micros.size() * 0.99) - 1);
        FIGURES.info(
                "{}: {} times, after p50 {} ms, p99 {} ms, at most {} ms",
                what,
                micros.size(),
                micros.get(micros.size() / 2) / 1_000.0,
                high / 1_000.0,
                micros.get(micros.size() - 1) / 1_000.0);
        long most = micros.get(micros.size() - 1);
        assertThat(most).as(what).isPositive().isLessThan(SOON.toNanos() / 1_000);
        if (LONG) {
            assertThat(high).as(what).isLessThan(goal.toNanos() / 1_000);
        }
    }

    /** Of processes that were told to end; all others were killed. */
    private void assertHistory(List<LabChild> ended) {
        LabHistory history = LabHistory.read(directory);
        HistoryChecker.Verdict verdict = HistoryChecker.check(history);
        FIGURES.info(verdict.table());
        assertThat(verdict.violations()).isEmpty();
        assertThat(LeaderHistory.violations(history.holds())).isEmpty();
        tellOverlaps(history.holds());
        Map<String, List<LabHold>> terms = new HashMap<>();
        history.holds()
                .forEach(term -> terms.computeIfAbsent(term.process(), name -> new ArrayList<>())
                        .add(term));
        for (LabChild process : all) {
            List<LabHold> own = terms.getOrDefault(process.name(), List.of());
            List<String> events = LeaderHistory.events(directory, process.name());
            assertThat(LeaderHistory.violations(own, events, !ended.contains(process)))
                    .as(process.name())
                    .isEmpty();
        }
    }

    /** Each window in which two led, all of which the checker has found to be within what is stated. */
    private static void tellOverlaps(List<LabHold> terms) {
        List<LabHold> sorted =
                terms.stream().sorted(Comparator.comparingLong(LabHold::begin)).toList();
        for (int i = 1; i < sorted.size(); i++) {
            LabHold earlier = sorted.get(i - 1);
            LabHold next = sorted.get(i);
            if (earlier.hasEnd() && earlier.end() > next.begin()) {
                FIGURES.info(
                        "two leaders for {} ms: {} and {}",
                        (earlier.end() - next.begin()) / 1_000_000.0,
                        earlier,
                        next);
            }
        }
    }

    @Test
    void networkCut_endsTheWorkInTime_andAnotherLeads() {
        try (CuttableNetwork network = CuttableNetwork.create();
                TestServer server = TestServer.ownOn(network)) {
            residue.watch(server);
            long begun = System.nanoTime();
            LabChild inside = start(server, network.inside(), network.serverHost());
            inside.awaitReady(begun);
            Leader old = awaitLeader(begun);
            LabChild outside = start(server, List.of(), server.host());
            outside.awaitReady(begun);
            awaitCandidates(server, 1);
            long cut = System.nanoTime();
            network.cut();
            LabHold over = ended(old);
            Leader next = awaitLeader(cut);
            network.heal();
            happened(LabTrouble.Kind.CUT, inside.name(), cut);
            FIGURES.info(
                    "network cut: the leader's work was cancelled after {} ms, the next one's began after {} ms",
                    (over.end() - cut) / 1_000_000,
                    (next.term.begin() - cut) / 1_000_000);
            assertThat(over.end() - cut).isBetween(0L, SILENCE.plus(SCHEDULING).toNanos());
            assertThat(over.outcome()).isEqualTo(LabHold.Outcome.LOST);
            assertThat(next.process).isEqualTo(outside);
            assertThat(next.term.begin()).isGreaterThan(over.end());
            awaitCandidates(server, 1);
            living.forEach(LabChild::end);
            assertHistory(List.copyOf(living));
            residue.check();
        }
    }
}
