package io.r2lock;

import io.r2lock.LabTrouble.Kind;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/**
 * Makes trouble in a {@link Lab}, one after the other, and logs it.
 *
 * <p>Half of the pauses and cuts meet a second one: a backend of the process that cannot hear of it is terminated.
 */
final class Nemesis {

    private static final String ANY = """
            select pid from pg_stat_activity
            where application_name ~ '^%s$' and backend_type = 'client backend' order by random() limit 1""";
    private static final String HOLDING = """
            select a.pid from pg_stat_activity a join pg_locks l on l.pid = a.pid
            where a.application_name ~ '^%s$' and l.locktype = 'advisory' and l.granted order by random() limit 1""";
    private static final String LASTING = """
            select count(*) from pg_stat_activity a join pg_locks l on l.pid = a.pid
            where a.application_name = '%s' and l.locktype = 'advisory' and l.granted and l.objid >= %d""";
    private static final Duration LASTING_WITHIN = Duration.ofSeconds(5);

    private final Lab lab;
    private final Path log;
    private final Random random;
    private final Map<Kind, Integer> counts = new EnumMap<>(Kind.class);

    Nemesis(Lab lab, Path directory, Random random) {
        this.lab = lab;
        this.log = LabHistory.log(directory, LabHistory.TROUBLES);
        this.random = random;
    }

    /** How often each trouble was made. */
    Map<Kind, Integer> counts() {
        return counts;
    }

    /**
     * Makes trouble, and ends it.
     *
     * @param severity how long it lasts, if it lasts: 0 for the shortest, 1 for the longest
     * @param twofold whether a backend is terminated meanwhile
     */
    void strike(Kind kind, double severity, boolean twofold) {
        switch (kind) {
            case TERMINATE -> terminate(LabProcess.applicationName("lab-.*"));
            case STOP_SERVER -> server(kind, lab.server()::stop);
            case CRASH_SERVER -> server(kind, lab.server()::crash);
            case KILL -> kill(any());
            case PAUSE -> pause(any(), between(severity, 200, 8_000), twofold);
            case CUT -> cut(lab.inside(), between(severity, 1_000, 15_000), twofold);
            case STALL -> stall(lab.proxied(), between(severity, 1_000, 10_000));
            case RESET -> reset(lab.proxied());
        }
    }

    private LabChild any() {
        List<LabChild> processes = lab.processes();
        return processes.get(random.nextInt(processes.size()));
    }

    private static Duration between(double severity, int shortest, int longest) {
        return Duration.ofMillis(shortest + Math.round(severity * (longest - shortest)));
    }

    private void terminate(String application) {
        Integer backend = random.nextInt(4) == 0 ? null : backend(HOLDING, application);
        Integer victim = backend == null ? backend(ANY, application) : backend;
        if (victim != null) {
            long from = System.nanoTime();
            boolean gone = lab.server().count("select pg_terminate_backend(" + victim + ", 5000)::int") == 1;
            if (gone) {
                happened(Kind.TERMINATE, victim.toString(), from);
            }
        }
    }

    private @Nullable Integer backend(String sql, String application) {
        return lab.server().query(sql.formatted(application)).stream()
                .map(row -> (Integer) row.get("pid"))
                .findFirst()
                .orElse(null);
    }

    private void server(Kind kind, Runnable end) {
        long from = System.nanoTime();
        end.run();
        happened(kind, "server", from);
        lab.server().start();
    }

    private void kill(LabChild victim) {
        long from = System.nanoTime();
        victim.kill();
        happened(Kind.KILL, victim.name(), from);
        lab.replace(victim);
    }

    private void pause(LabChild victim, Duration time, boolean twofold) {
        long from = System.nanoTime();
        Process pause = victim.pause(time);
        meanwhile(victim, time, twofold);
        try {
            if (!pause.waitFor(time.toSeconds() + 10, TimeUnit.SECONDS) || pause.exitValue() != 0) {
                throw new AssertionError("could not pause " + victim.name());
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException(e);
        }
        happened(Kind.PAUSE, victim.name(), from);
    }

    private void cut(LabChild victim, Duration time, boolean twofold) {
        awaitLasting(victim);
        long from = System.nanoTime();
        lab.network().cut();
        long until = System.nanoTime() + time.toNanos();
        meanwhile(victim, time, twofold);
        Await.rest(Duration.ofNanos(until - System.nanoTime()));
        lab.network().heal();
        happened(Kind.CUT, victim.name(), from);
    }

    private void stall(LabChild victim, Duration time) {
        awaitLasting(victim);
        long from = System.nanoTime();
        lab.proxy().stall();
        Await.rest(time);
        lab.proxy().resume();
        happened(Kind.STALL, victim.name(), from);
    }

    private void reset(LabChild victim) {
        long from = System.nanoTime();
        lab.proxy().reset();
        happened(Kind.RESET, victim.name(), from);
    }

    /** A cut that meets brief holds only shows little. */
    private void awaitLasting(LabChild victim) {
        String count = LASTING.formatted(LabProcess.applicationName(victim.name()), RandomHolds.LASTING_KEY);
        Await.value(() -> lab.server().count(count), lasting -> lasting > 0, LASTING_WITHIN);
    }

    private void meanwhile(LabChild victim, Duration time, boolean twofold) {
        if (twofold) {
            Await.rest(time.dividedBy(3));
            terminate(LabProcess.applicationName(victim.name()) + "( heartbeat)?");
        }
    }

    private void happened(Kind kind, String target, long from) {
        counts.merge(kind, 1, Integer::sum);
        try {
            Files.writeString(
                    log,
                    new LabTrouble(kind, target, from, System.nanoTime()).line() + "\n",
                    StandardOpenOption.CREATE,
                    StandardOpenOption.APPEND);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
