package io.r2lock;

class SessionLockingContractIT extends LockingContract {

    SessionLockingContractIT() {
        super(TestServer.newest(), LockRequest::inSession);
    }
}
