// A CUDA device that computes nothing. FakeTensorMode lets tensors without numbers stand on "cuda" on any machine, but
// autograd asks C++ for streams and indexing for a device guard; without a GPU nothing answers. This answers: there is
// one device, it is the current one, its one stream is always ready.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

const c10::Device device{c10::DeviceType::CUDA, 0};
const c10::Stream stream{c10::Stream::DEFAULT, device};

struct Hooks : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(at::DeviceIndex) const override { return true; }
  long versionCuDNN() const override { return 0; }
  long versionRuntimeCuDNN() const { return 0; }  // not in the interface of every torch
};

struct Guard : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> {
  c10::Device exchangeDevice(c10::Device) const override { return device; }
  c10::Device getDevice() const override { return device; }
  c10::Stream getStream(c10::Device) const noexcept override { return stream; }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
};

// Preferred to the hooks of a torch that is built with CUDA, which it registers after this library is loaded.
at::RegistererCUDAHooksRegistry hooks(
    "CUDAHooks", c10::REGISTRY_PREFERRED, at::CUDAHooksRegistry(),
    at::RegistererCUDAHooksRegistry::DefaultCreator<Hooks>);

const Guard guard;

} // namespace

// To be called once torch is imported, when a build with CUDA has registered its own guard.
extern "C" void guard_cuda() {
  c10::impl::device_guard_impl_registry[static_cast<size_t>(c10::DeviceType::CUDA)].store(&guard);
}
