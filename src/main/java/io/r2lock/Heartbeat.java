package io.r2lock;

import java.util.Collection;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;

/**
 * Asks the server, once a period and for all holds together, whether the backends that hold locks still live, each in the
 * transaction that it was in; and tells those whose backend does not, or of whom nothing has been heard for too long.
 *
 * <p>For each held connection there is a {@link Sight}: <em>confirmed</em> at its grant, and whenever an answer says so, as of the
 * instant at which the question was sent. Invariant: a hold was confirmed at most {@code heartbeat + heartbeatDeadline} ago, else it
 * is told that it is lost. So a hold learns of a silent network within that time, however the two fall together.
 *
 * <p>Silence has to be the server's. Time in which this process did not run (a suspended machine, a long garbage collection)
 * does not count. A question that is not answered in a third of the deadline is asked again over a new connection, on the event loop
 * of a hold that is known to run: so neither a broken heartbeat connection nor user code that blocks its event loop makes anybody
 * lose anything. The driver offers no way to give one connection an event loop of its own. Where user code blocks those of
 * <em>all</em> holds nothing can be heard; a hold whose own loop is blocked, so that its work could not go on either, is believed in
 * {@link Sight#STALL_FACTOR} times as long then.
 *
 * <p>All state belongs to one thread, which runs no user code. Who is lost is told on another.
 */
final class Heartbeat {

    /**
     * Of all clients together, which cost it microseconds. It is never shut down: an event loop that tells it something meanwhile
     * would wait for a lock of the executor that is just ending.
     */
    private static final Scheduler THREAD = Schedulers.newSingle("r2lock-heartbeat", true);

    /** How often silence is looked at, in each period. */
    private static final int LOOKS = 20;

    private static final long LONGEST_LOOK_MILLIS = 100;

    /** A look that comes so much late, or a quarter of the patience, means that this process has not run. */
    private static final long PAUSE_NANOS = TimeUnit.SECONDS.toNanos(1);

    private final Supplier<Collection<Watched>> connections;
    private final Scheduler scheduler;
    private final Disposable looks;
    private final long period;
    private final long patience;
    private final long lookNanos;
    private final long pause;

    private final Map<Watched, Sight> sights = new HashMap<>();
    private final Pulses pulses;
    private int hedges;
    private long askedAt;
    private long lookedAt;

    /** {@code connections}: those that are open, whether somebody relies on them or not. */
    Heartbeat(ConnectionSource source, Supplier<Collection<Watched>> connections, ClientOptions options) {
        this.connections = connections;
        Scheduler given = options.heartbeatClock();
        this.scheduler = given == null ? THREAD : given;
        this.period = options.heartbeat().toNanos();
        this.patience = options.heartbeat().plus(options.heartbeatDeadline()).toNanos();
        this.pulses =
                new Pulses(source, scheduler, options.heartbeatDeadline().dividedBy(3), this::question, this::answered);
        this.lookedAt = now();
        this.askedAt = lookedAt - period;
        long look =
                Math.max(1, Math.min(LONGEST_LOOK_MILLIS, options.heartbeat().toMillis() / LOOKS));
        this.pause = Math.min(PAUSE_NANOS, patience / 4);
        this.lookNanos = TimeUnit.MILLISECONDS.toNanos(look);
        this.looks = scheduler.schedulePeriodically(this::look, look, look, TimeUnit.MILLISECONDS);
    }

    private long now() {
        return scheduler.now(TimeUnit.NANOSECONDS);
    }

    private void look() {
        long now = now();
        forgivePause(now);
        lookAtHolders(now);
        if (sights.isEmpty()) {
            return;
        }
        // half a look early, or a look that comes a little early would leave it to the next
        if (now - askedAt >= period - lookNanos / 2) {
            askedAt = now;
            pulses.ask(now);
            sights.keySet().forEach(Watched::probe);
        }
        // before they are looked at anew
        Scheduler running = runningLoop();
        if (pulses.areLate(now)) {
            sights.values().forEach(sight -> sight.loop.look(now));
        }
        pulses.hedge(now, running);
        judgeSilence(now);
    }

    /** Of the holds, in turn: whoever can be told of a loss can be asked for, too. */
    private @Nullable Scheduler runningLoop() {
        List<Scheduler> running = sights.values().stream()
                .map(sight -> sight.loop.running())
                .filter(Objects::nonNull)
                .toList();
        return running.isEmpty() ? null : running.get(Math.floorMod(hedges++, running.size()));
    }

    private void forgivePause(long now) {
        long gap = now - lookedAt;
        lookedAt = now;
        if (gap > pause) {
            sights.values().forEach(sight -> sight.forgive(gap));
            pulses.shift(gap);
            askedAt = now - period;
        }
    }

    private void lookAtHolders(long now) {
        sights.entrySet().removeIf(entry -> entry.getKey().holder() != entry.getValue().holder);
        for (Watched connection : connections.get()) {
            LockConnection.Holder holder = connection.holder();
            // which backend a wait behind a pooler has, is not known before it ends
            if (holder != null && (holder.inTransaction() || !connection.isPooled())) {
                // granted since the last look
                sights.computeIfAbsent(connection, unseen -> new Sight(connection, holder, now, now - lookNanos));
            }
        }
    }

    /** One for all, or {@code null} when there is nobody to ask for. */
    private @Nullable String question() {
        if (sights.isEmpty()) {
            return null;
        }
        TreeSet<Integer> pids = new TreeSet<>();
        sights.keySet().forEach(connection -> pids.add(connection.pid()));
        return LockSql.heartbeat(pids);
    }

    private void answered(long asked, Pulse.Answer answer) {
        for (Iterator<Map.Entry<Watched, Sight>> all = sights.entrySet().iterator(); all.hasNext(); ) {
            Map.Entry<Watched, Sight> entry = all.next();
            String lost = judge(entry.getKey(), entry.getValue(), answer, asked);
            if (lost != null) {
                all.remove();
                tell(entry.getValue(), lost);
            }
        }
    }

    /** Why it is lost, or {@code null}. Who became a holder after the question was sent is not judged by its answer. */
    private static @Nullable String judge(Watched connection, Sight sight, Pulse.Answer answer, long asked) {
        if (sight.seenAt - asked > 0) {
            return null;
        }
        if (answer.standby()) {
            return "the server is a standby now, and another one grants locks";
        }
        Pulse.Backend backend = answer.backends().get(connection.pid());
        if (backend == null) {
            return "its backend " + connection.pid() + " is gone from the server";
        }
        if (backend.start() != 0 && sight.backendStart != 0 && backend.start() != sight.backendStart) {
            return "its backend is gone from the server, and another one has its pid " + connection.pid();
        }
        boolean inOther = backend.transactionStart() == 0
                || (sight.transactionStart != 0 && backend.transactionStart() != sight.transactionStart);
        if (sight.holder.inTransaction() && backend.start() != 0 && inOther) {
            return "its transaction has ended, which freed it; SQL of the work did that, or somebody else on its connection";
        }
        sight.confirm(asked);
        sight.backendStart = backend.start() == 0 ? sight.backendStart : backend.start();
        sight.transactionStart = backend.start() == 0 ? sight.transactionStart : backend.transactionStart();
        return null;
    }

    private void judgeSilence(long now) {
        // the next look would come too late, and the work has to be told, too
        boolean stalled = pulses.areStalled(now);
        for (Iterator<Map.Entry<Watched, Sight>> all = sights.entrySet().iterator(); all.hasNext(); ) {
            Map.Entry<Watched, Sight> entry = all.next();
            Sight sight = entry.getValue();
            if (sight.isSilentFor(
                    patience, 2 * lookNanos, now, stalled, entry.getKey().isPooled())) {
                all.remove();
                tell(
                        sight,
                        "the server has not answered for " + TimeUnit.NANOSECONDS.toMillis(sight.silence(now))
                                + " ms, so it may give the lock to another process soon");
            }
        }
    }

    /** Elsewhere, because the holder's own code runs then, which may block. */
    private static void tell(Sight sight, String why) {
        Losses.tell(() -> sight.holder.lose(why));
    }

    Mono<Void> close() {
        return pulses.close().doFinally(signal -> looks.dispose());
    }
}
