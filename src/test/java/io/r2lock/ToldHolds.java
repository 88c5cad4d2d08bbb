package io.r2lock;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;

/**
 * Takes the holds that it is told to: {@code hold CLIENT KEY MILLIS} waits for the key, exclusively, for as long as it
 * takes, and holds it for that time. Each client is one of r2lock, with connections of its own.
 */
final class ToldHolds implements LabProcess.Role {

    private static final Duration PATIENCE = Duration.ofSeconds(20);

    private final LabProcess process;
    private final Random random = new Random();
    private final HoldLog log;
    private final Map<String, AdvisoryLocks> clients = new ConcurrentHashMap<>();
    private final List<Disposable> calls = new CopyOnWriteArrayList<>();

    ToldHolds(LabProcess process, HoldLog log) {
        this.process = process;
        this.log = log;
    }

    @Override
    public void command(String line) {
        String[] words = line.split(" ", -1);
        AdvisoryLocks client = clients.computeIfAbsent(words[1], name -> client());
        long key = Long.parseLong(words[2]);
        Duration time = Duration.ofMillis(Long.parseLong(words[3]));
        LoggedWork hold = new LoggedWork(log, true, List.of(key));
        LockRequest any = client.exclusive(LockKey.of(key)).waitForever();
        LockRequest request = process.inSession(random) ? any.inSession() : any;
        calls.add(hold.call(
                        request.guard((HeldLock held) -> hold.work(held, () -> Mono.delay(time))),
                        LabHold.Outcome.RELEASED)
                .subscribe());
    }

    private AdvisoryLocks client() {
        // many such processes start at once, and are told only once
        return process.client().connectTimeout(PATIENCE).build();
    }

    @Override
    public void end() {
        calls.forEach(Disposable::dispose);
        clients.values().forEach(client -> client.close().block(PATIENCE));
    }
}
