package io.r2lock;

class OldestFreedLockIT extends FreedLock {

    OldestFreedLockIT() {
        super(TestServer.oldest());
    }
}
