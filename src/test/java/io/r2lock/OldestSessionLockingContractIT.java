package io.r2lock;

class OldestSessionLockingContractIT extends LockingContract {

    OldestSessionLockingContractIT() {
        super(TestServer.oldest(), LockRequest::inSession);
    }
}
