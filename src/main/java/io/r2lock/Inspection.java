package io.r2lock;

import io.r2lock.AdvisoryLockException.Failure;
import io.r2lock.AdvisoryLockException.LockAttempt;
import io.r2lock.LockInfo.State;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Set;
import java.util.TreeSet;
import reactor.core.publisher.Flux;

/**
 * One look at what the server shows, and then at what this client knows: in this order, so that who is served in between is not told
 * twice. What is alive in the client is looked through as it moves, without a lock, and nothing is kept there for it.
 */
final class Inspection {

    private static final Comparator<LockInfo> ORDER = Comparator.comparing(LockInfo::key)
            .thenComparing(LockInfo::state)
            .thenComparing(lock -> lock.since().orElse(Instant.MAX));

    private record Place(LockKey key, int pid) {}

    private record Semaphore(LockKey key, int permits) {

        /** As its callers name it. */
        String name() {
            String name = key.name();
            return name == null ? key.toString() : name;
        }

        String slotName(int slot) {
            return name() + " (permit " + (slot + 1) + " of " + permits + ")";
        }
    }

    private final DefaultAdvisoryLocks client;
    private final ServerLocks server;
    private final long now;

    /** By what they were made from, as many requests may have the same one. */
    private final Map<LockKey, Map<Object, String>> names = new HashMap<>();

    private final Set<Semaphore> semaphores = new HashSet<>();
    private final Map<Place, Long> grants = new HashMap<>();

    /** The server processes of this client. */
    private final Set<Integer> own = new HashSet<>();

    private final List<Acquire> waiters = new ArrayList<>();
    private final Map<LockKey, List<LockInfo>> onServer = new HashMap<>();
    private final Map<LockKey, List<Integer>> blockers = new HashMap<>();
    private final Map<Semaphore, List<Integer>> permitHolders = new HashMap<>();

    private Inspection(DefaultAdvisoryLocks client, ServerLocks server) {
        this.client = client;
        this.server = server;
        this.now = client.now();
    }

    /** Each subscription looks anew; {@code live} is what is alive in the client. */
    static Flux<LockInfo> of(DefaultAdvisoryLocks client, ConnectionSource source, Collection<Acquire> live) {
        return Flux.defer(() -> {
            LockAttempt nothing = new LockAttempt(List.of(), LockMode.EXCLUSIVE, Duration.ZERO);
            if (client.isClosing()) {
                return Flux.error(new LocksClosedException("The client is closed: no inspection", nothing, null));
            }
            return source.locks()
                    .onErrorMap(error -> new LockServerException(
                            "No inspection: " + error.getMessage(), nothing, new Failure(error, SqlStates.of(error))))
                    // there may be many waiters to look through, and the event loop has others to serve
                    .publishOn(Opening.THREADS)
                    .flatMapIterable(answer -> new Inspection(client, answer).look(live));
        });
    }

    private List<LockInfo> look(Collection<Acquire> live) {
        for (Watched connection : client.open()) {
            // behind a pooler the process that an idle one had last is somebody else's by now
            if (!connection.isPooled()) {
                own.add(connection.pid());
            }
        }
        live.forEach(this::look);
        semaphores.forEach(this::nameSlots);
        List<LockInfo> all = new ArrayList<>(server.locks().size() + waiters.size());
        for (LockInfo lock : server.locks()) {
            LockInfo known = withWhatIsKnown(lock);
            onServer.computeIfAbsent(lock.key(), key -> new ArrayList<>(1)).add(known);
            all.add(known);
        }
        for (Acquire waiter : waiters) {
            for (LockKey key : waiter.awaited()) {
                all.add(waiting(waiter, key));
            }
        }
        all.sort(ORDER);
        return all;
    }

    private void look(Acquire attempt) {
        if (attempt.spec.permits() > 0) {
            semaphores.add(semaphore(attempt));
        } else {
            attempt.spec.keys().forEach(this::name);
        }
        Hold hold = attempt.hold();
        if (hold == null) {
            if (attempt.isWaitingHere()) {
                waiters.add(attempt);
            }
        } else if (hold instanceof SessionHold session) {
            session.locks().forEach(lock -> granted(lock.key, lock.pid(), session.since()));
        } else if (hold instanceof JoinedHold joined) {
            joined.locked().forEach(key -> granted(key, joined.backendPid(), joined.since()));
        } else {
            hold.keys().forEach(key -> granted(key, hold.backendPid(), hold.since()));
            if (hold instanceof TransactionHold transaction) {
                transaction.nestedKeys().forEach(this::name);
            }
        }
    }

    private static Semaphore semaphore(Acquire attempt) {
        return new Semaphore(attempt.spec.keys().get(0), attempt.spec.permits());
    }

    /** Of those that share a lock, the oldest. */
    private void granted(LockKey key, int pid, long since) {
        own.add(pid);
        grants.merge(new Place(key, pid), since, Math::min);
    }

    private void name(LockKey key) {
        Object origin = key.origin();
        if (origin != null) {
            names.computeIfAbsent(key, number -> new LinkedHashMap<>(2))
                    .computeIfAbsent(origin, made -> String.valueOf(key.name()));
        }
    }

    private void nameSlots(Semaphore semaphore) {
        for (int slot = 0; slot < semaphore.permits(); slot++) {
            names.computeIfAbsent(semaphore.key().slot(slot), number -> new LinkedHashMap<>(2))
                    .put(semaphore, semaphore.slotName(slot));
        }
    }

    private LockInfo withWhatIsKnown(LockInfo lock) {
        LockInfo named = lock.withNames(namesOf(lock.key()));
        if (lock.state() != State.HELD || lock.pid().isEmpty()) {
            return named;
        }
        Long grant = grants.get(new Place(lock.key(), lock.pid().getAsInt()));
        return grant == null ? named : named.since(before(now - grant));
    }

    private List<String> namesOf(LockKey key) {
        return List.copyOf(names.getOrDefault(key, Map.of()).values());
    }

    /** On the server's clock. */
    private Instant before(long nanos) {
        return server.now().minusNanos(Math.max(0, nanos));
    }

    private LockInfo waiting(Acquire waiter, LockKey key) {
        boolean permit = waiter.spec.permits() > 0;
        Semaphore semaphore = semaphore(waiter);
        return new LockInfo(
                LockKey.located(key.high(), key.low(), key.isPair()),
                permit ? List.of(semaphore.name() + " (one of " + semaphore.permits() + " permits)") : namesOf(key),
                waiter.spec.mode(),
                State.WAITING_HERE,
                Optional.of(before(waiter.waited.until(now))),
                OptionalInt.empty(),
                Optional.of(client.options().settings().applicationName()),
                Optional.empty(),
                permit
                        ? permitHolders.computeIfAbsent(semaphore, this::holders)
                        : blockers.computeIfAbsent(key, this::blockers));
    }

    /** Its own process, for which the others of this client wait; where it has none, those that it tries to follow. */
    private List<Integer> blockers(LockKey key) {
        List<LockInfo> rows = onServer.getOrDefault(key, List.of());
        List<LockInfo> ours = rows.stream().filter(this::isOwn).toList();
        List<Integer> holding = holders(ours);
        if (!holding.isEmpty() || ours.isEmpty()) {
            return holding.isEmpty() ? holders(rows) : holding;
        }
        return pids(ours);
    }

    private boolean isOwn(LockInfo row) {
        return row.pid().isPresent() && own.contains(row.pid().getAsInt());
    }

    private List<Integer> holders(Semaphore semaphore) {
        List<LockInfo> rows = new ArrayList<>();
        for (int slot = 0; slot < semaphore.permits(); slot++) {
            rows.addAll(onServer.getOrDefault(semaphore.key().slot(slot), List.of()));
        }
        return holders(rows);
    }

    private static List<Integer> holders(List<LockInfo> rows) {
        return pids(rows.stream().filter(row -> row.state() == State.HELD).toList());
    }

    private static List<Integer> pids(List<LockInfo> rows) {
        Set<Integer> pids = new TreeSet<>();
        rows.forEach(row -> pids.add(row.pid().orElse(0)));
        return List.copyOf(pids);
    }
}
