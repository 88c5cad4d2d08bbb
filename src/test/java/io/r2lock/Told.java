package io.r2lock;

import java.time.Duration;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;

/** A listener that keeps what it was told. */
final class Told implements LockListener {

    final Queue<String> lost = new ConcurrentLinkedQueue<>();
    final Queue<Duration> cancelIgnored = new ConcurrentLinkedQueue<>();

    @Override
    public void lost(List<LockKey> keys, LockMode mode, Duration age, String why) {
        lost.add(keys + " " + mode + " " + why);
    }

    @Override
    public void cancelIgnored(List<LockKey> keys, LockMode mode, Duration since) {
        cancelIgnored.add(since);
    }
}
