package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The lab catches clients that ignore the loss of their lock. */
class PlantedBugIT {

    private static final Logger LOG = LoggerFactory.getLogger(PlantedBugIT.class);
    private static final Duration PATIENCE = Duration.ofSeconds(20);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    final NoResidue residue = NoResidue.on(server);

    @Test
    void workThatGoesOnAfterItsBackendDied_isAViolation() throws IOException {
        Path directory = LabChild.directory("planted-bug");
        Map<String, ?> options = Map.of(
                "role",
                "ignores-loss",
                "scope",
                "session",
                "host",
                server.host(),
                "port",
                server.port(),
                "seconds",
                60);
        long start = System.nanoTime();
        List<LabChild> processes = IntStream.range(0, 2)
                .mapToObj(i -> LabChild.start(directory, "bug-" + i, List.of(), options))
                .toList();
        try {
            processes.forEach(process -> process.awaitReady(start));
            Set<Object> gone = new HashSet<>();
            for (int i = 0; i < 3; i++) {
                LabTrouble terminated = terminateHolder(gone);
                Files.writeString(
                        LabHistory.log(directory, LabHistory.TROUBLES),
                        terminated.line() + "\n",
                        StandardOpenOption.CREATE,
                        StandardOpenOption.APPEND);
            }
            processes.forEach(LabChild::end);
        } finally {
            processes.forEach(LabChild::close);
        }
        HistoryChecker.Verdict verdict = HistoryChecker.check(LabHistory.read(directory));
        LOG.info("{}{}", verdict.table(), String.join("\n", verdict.violations()));
        assertThat(verdict.violations())
                .anyMatch(violation -> violation.startsWith("overlap of "))
                .anyMatch(violation -> violation.startsWith("not told of TERMINATE"));
    }

    /** Terminates the backend of a hold that has begun not long ago. */
    private LabTrouble terminateHolder(Set<Object> gone) {
        String holders =
                "select pid from pg_locks where locktype = 'advisory' and granted and objid = " + LossIgnorer.KEY;
        Object pid = Await.value(
                () -> server.query(holders).stream()
                        .findFirst()
                        .map(row -> row.get("pid"))
                        .orElse(0),
                holder -> !holder.equals(0) && !gone.contains(holder),
                PATIENCE);
        assertThat(gone.add(pid)).isTrue();
        Await.rest(Duration.ofMillis(200)); // until it has told its log
        long from = System.nanoTime();
        assertThat(server.count("select pg_terminate_backend(" + pid + ", 5000)::int"))
                .isOne();
        return new LabTrouble(LabTrouble.Kind.TERMINATE, pid.toString(), from, System.nanoTime());
    }
}
