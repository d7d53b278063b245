// A switch of this thread, set until the end of a scope, however that is left.
#pragma once

namespace sheily {

// `exchange` sets the switch and gives what it was before.
template <auto exchange> class Switched {
  public:
    template <typename Value> explicit Switched(Value wanted) : before_(exchange(wanted)) {}
    ~Switched() { exchange(before_); }
    Switched(const Switched &) = delete;
    Switched &operator=(const Switched &) = delete;

  private:
    decltype(exchange({})) before_;
};

} // namespace sheily
